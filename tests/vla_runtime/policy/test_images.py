"""The letterbox against LeRobot's, and what it must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_runtime.errors import BadInput
from vla_runtime.policy.images import BLACK, letterbox

GOLDEN = Path(__file__).parent / "data" / "letterbox_lerobot_0.6.1.npz"


@pytest.mark.parametrize("case", range(6))
def test_equals_lerobot(case: int) -> None:
    with np.load(GOLDEN) as golden:
        image, expected = golden[f"image_{case}"], golden[f"boxed_{case}"]
    boxed = letterbox(image, *expected.shape[1:])
    assert boxed.dtype == np.float32
    np.testing.assert_allclose(boxed, expected, atol=1e-5)
    np.testing.assert_array_equal(boxed == BLACK, expected == BLACK)  # the padding has the same place


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 255))
def test_one_colour_stays_that_colour_and_fills_one_direction(height: int, width: int, grey: int) -> None:
    assume(max(height, width) / min(height, width) <= 20)
    boxed = letterbox(np.full((height, width, 3), grey, np.uint8), 20, 20)
    colour = np.float32(grey) / 255 * 2 - 1
    inside = np.isclose(boxed[0], colour, atol=1e-6)
    assert (inside | (boxed[0] == BLACK)).all()
    assert inside.all(axis=0).any() or inside.all(axis=1).any()


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
