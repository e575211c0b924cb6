"""Resizing that smooths what it shrinks, as Pillow does: openpi's pictures are made that way."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_BITS = 22  # of a weight's fraction


def smooth_resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pillow's ``Image.resize`` with ``BILINEAR``: across first, then down, each rounded to 8 bits.

    image: shape (h, w, channels). Returns shape (height, width, channels).
    Source: ``ImagingResample`` in src/libImaging/Resample.c of Pillow.
    """
    across = _resample(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return _resample(across, height)


def _resample(lines: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Along the first axis."""
    if len(lines) == size:
        return lines
    places, weights = _taps(len(lines), size)
    flat = np.ascontiguousarray(lines).reshape(len(lines), -1)
    total = np.full((size, flat.shape[1]), 1 << (_BITS - 1), np.int32)
    for place, weight in zip(places, weights, strict=True):
        total += flat[place].astype(np.int32) * weight[:, None]
    return (total >> _BITS).astype(np.uint8).reshape(size, *lines.shape[1:])


@lru_cache(maxsize=16)
def _taps(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Which old lines make each new one, and how much of each: a triangle as wide as two new lines, at least two old.

    Shapes (taps, new). Weights are whole parts of ``2 ** _BITS``.
    """
    ratio = old / new
    reach = max(ratio, 1.0)
    centres = (np.arange(new) + 0.5) * ratio
    first = np.maximum((centres - reach + 0.5).astype(int), 0)
    last = np.minimum((centres + reach + 0.5).astype(int), old)
    places = first + np.arange(int(np.max(last - first)))[:, None]
    weights = np.maximum(0.0, 1.0 - np.abs((places - centres + 0.5) / reach)) * (places < last)
    weights /= weights.sum(axis=0)
    return np.minimum(places, old - 1), (weights * (1 << _BITS) + 0.5).astype(np.int32)
