"""What the policy saw during an episode, as one picture: time runs to the right, one row per camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_FRAMES = 8
_SIZE = 128  # [px], height and width of one frame in the strip
_GAP = 4  # [px]

Frames = Sequence[Mapping[str, NDArray[np.uint8]]]


def film_strip(frames: Frames) -> NDArray[np.uint8]:
    """``frames``: pictures by camera name, RGB, in the order of time; at most eight of them, evenly chosen, are shown.

    Shape (height, width, 3). Raises `ValueError` without frames.
    """
    if not frames:
        raise ValueError("a film strip of no frames")
    chosen = [frames[n] for n in np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))]
    rows = [_row([frame[camera] for frame in chosen]) for camera in chosen[0]]
    return np.concatenate([line for row in rows for line in (row, _white(_GAP, row.shape[1]))][:-1])


def write_film_strip(frames: Frames, path: Path) -> None:
    """Write the strip as a PNG, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    _, encoded = cv2.imencode(".png", cv2.cvtColor(film_strip(frames), cv2.COLOR_RGB2BGR))
    partial.write_bytes(encoded.tobytes())
    partial.replace(path)


def _row(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    shown = [cv2.resize(picture, (_SIZE, _SIZE), interpolation=cv2.INTER_NEAREST) for picture in pictures]
    parts = [part for picture in shown for part in (picture.astype(np.uint8), _white(_SIZE, _GAP))]
    return np.concatenate(parts[:-1], axis=1)


def _white(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 255, np.uint8)
