"""Films, read back with another tool than the one that wrote them."""

import cv2
import numpy as np
import pytest

from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.sim.video import VideoWriter


def frame(level):
    return np.full((48, 64, 3), (level, 40, 200 - level), dtype=np.uint8)


def test_a_film_reads_back_as_it_was_written(tmp_path):
    path = tmp_path / "out" / "film.mp4"
    with VideoWriter(path, fps=15) as film:
        for level in range(0, 150, 5):
            film.write(frame(level))
    reader = cv2.VideoCapture(str(path))
    assert reader.get(cv2.CAP_PROP_FPS) == 15
    assert int(reader.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"h264", b"avc1")
    for level in range(0, 150, 5):
        going, picture = reader.read()
        assert going
        np.testing.assert_allclose(picture[..., ::-1].reshape(-1, 3).mean(axis=0), frame(level)[0, 0], atol=8)
    assert not reader.read()[0]
    assert [entry.name for entry in path.parent.iterdir()] == ["film.mp4"]


def test_a_broken_film_leaves_nothing(tmp_path):
    def film_that_breaks():
        with VideoWriter(tmp_path / "film.mp4", fps=15) as film:
            film.write(frame(0))
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        film_that_breaks()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_film_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(WorkFailed, match="no frames"), VideoWriter(tmp_path / "film.mp4", fps=15):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_shape_or_odd_size_are_refused(tmp_path):
    film = VideoWriter(tmp_path / "film.mp4", fps=15)
    with pytest.raises(ValueError, match="even"):
        film.write(np.zeros((47, 64, 3), dtype=np.uint8))
    film.write(frame(0))
    with pytest.raises(ValueError, match="shape"):
        film.write(np.zeros((64, 48, 3), dtype=np.uint8))
    film.discard()


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"\.mp4"):
        VideoWriter(tmp_path / "film.avi", fps=15)
