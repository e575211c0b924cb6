"""Film strips: what is in them, and where."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vla_evaluation.film_strip import film_strip, write_film_strip


def frames(count: int) -> list[dict[str, np.ndarray]]:
    """Frame n is grey n on the side camera, and red n on the wrist's."""
    side = [np.full((16, 16, 3), n, np.uint8) for n in range(count)]
    return [{"side": picture, "wrist": picture * np.array([1, 0, 0], np.uint8)} for picture in side]


def test_time_runs_to_the_right_from_the_first_frame_to_the_last() -> None:
    strip = film_strip(frames(100))
    shown = strip[0, :, 0].astype(int)
    values = shown[shown < 255]
    assert values[0] == 0
    assert values[-1] == 99
    assert len(np.unique(values)) == 8
    assert np.all(np.diff(values) >= 0)


def test_one_row_per_camera() -> None:
    strip = film_strip(frames(3))
    assert (strip[0, -1] == (2, 2, 2)).all()
    assert (strip[-1, -1] == (2, 0, 0)).all()
    assert strip.shape == (128 + 4 + 128, 3 * 128 + 2 * 4, 3)


def test_no_frames() -> None:
    with pytest.raises(ValueError, match="no frames"):
        film_strip([])


def test_the_file_is_the_strip(tmp_path: Path) -> None:
    path = tmp_path / "strips" / "one.png"
    write_film_strip(frames(4), path)
    np.testing.assert_array_equal(cv2.imread(str(path))[:, :, ::-1], film_strip(frames(4)))
    assert [entry.name for entry in path.parent.iterdir()] == ["one.png"]
