"""The letterbox against LeRobot's, and what it must refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from vla_runtime.errors import BadInput
from vla_runtime.policy.images import BLACK, letterbox

GOLDEN = Path(__file__).parent / "data" / "letterbox_lerobot_0.6.1.npz"


@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("padding", ["both", "left_top"])
def test_equals_lerobot(case: int, padding: Literal["both", "left_top"]) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"image_{case}"], golden[f"{padding}_{case}"]
    boxed = letterbox(image, *expected.shape[1:], padding)
    assert boxed.dtype == np.float32
    np.testing.assert_allclose(boxed, expected, atol=1e-5)
    np.testing.assert_array_equal(boxed == BLACK, expected == BLACK)  # the padding has the same place


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 255), st.sampled_from(["both", "left_top"]))
def test_one_colour_stays_that_colour_between_its_bars(height: int, width: int, grey: int, padding: Any) -> None:
    assume(max(height, width) / min(height, width) <= 20)
    boxed = letterbox(np.full((height, width, 3), grey, np.uint8), 20, 20, padding, bars=-3)
    colour = np.float32(grey) / 255 * 2 - 1
    inside = np.isclose(boxed[0], colour, atol=1e-6)
    assert (inside | (boxed[0] == -3)).all()
    assert inside.all(axis=0).any() or inside.all(axis=1).any()
    assert inside[-1, -1] or padding == "both"


def test_bars_are_black_unless_said_otherwise() -> None:
    white = np.full((4, 8, 3), 255, np.uint8)
    assert np.unique(letterbox(white, 8, 8)).tolist() == [BLACK, 1]
    assert np.unique(letterbox(white, 8, 8, bars=-3)).tolist() == [-3, 1]


@pytest.mark.parametrize("shape", [(48, 64), (37, 23), (32, 32), (9, 14)])
def test_a_smooth_letterbox_equals_openpis(shape: tuple[int, int]) -> None:
    """The steps of ``_resize_with_pad_pil`` in openpi_client/image_tools.py, on Pillow itself."""
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ratio = max(shape[0], shape[1]) / 32
    height, width = int(shape[0] / ratio), int(shape[1] / ratio)
    canvas = Image.new("RGB", (32, 32), 0)
    resized = Image.fromarray(picture).resize((width, height), resample=Image.Resampling.BILINEAR)
    canvas.paste(resized, (int((32 - width) / 2), int((32 - height) / 2)))
    expected = np.asarray(canvas).transpose(2, 0, 1).astype(np.float32) / 255 * 2 - 1
    np.testing.assert_allclose(letterbox(picture, 32, 32, resize="smooth"), expected, atol=1e-6)


def test_channels_keep_their_order() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    image[..., 0] = 255
    assert letterbox(image, 10, 10).mean(axis=(1, 2)).tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 1000, 3), np.uint8),
    ],
)
def test_refuses_what_is_no_image(image: np.ndarray) -> None:
    with pytest.raises(BadInput, match="image"):
        letterbox(image, 32, 32)
