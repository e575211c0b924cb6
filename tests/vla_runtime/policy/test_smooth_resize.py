"""Every pixel against Pillow's.

Newer Pillows go down first where that is less work, which rounds some pixels otherwise; along one direction there is
one answer only.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vla_runtime.policy.smooth_resize import smooth_resize

SIZES = st.tuples(st.integers(1, 80), st.integers(1, 80))


def pillows(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


@settings(max_examples=300)
@given(SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_equals_pillow(old: tuple[int, int], new: tuple[int, int], seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*old, 3), dtype=np.uint8)
    for size in ((old[0], new[1]), (new[0], old[1])):
        np.testing.assert_array_equal(smooth_resize(image, *size), pillows(image, *size))
    difference = smooth_resize(image, *new).astype(int) - pillows(image, *new)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("old", [(480, 640), (720, 1280), (224, 224)])
def test_equals_pillow_on_what_cameras_deliver(old: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    image[:, :, 0] = 255
    np.testing.assert_array_equal(smooth_resize(image, 168, 224), pillows(image, 168, 224))


def test_a_fine_pattern_becomes_grey() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8)[None, :, None], (64, 32, 3))
    inner = smooth_resize(stripes, 16, 16)[:, 1:-1]
    assert np.ptp(inner) <= 2
    assert abs(float(inner.mean()) - 127.5) < 2
