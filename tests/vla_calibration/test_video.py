from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vla_calibration.video import frame_at
from vla_runtime.errors import BadInput

FPS, FRAMES = 10, 30


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame n is n × 8 bright; with B-frames, and a single key frame, so that every seek has to decode."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "1000", "bf": "2", "crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for n in range(FRAMES):
            image = np.full((32, 48, 3), 8 * n, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("off", [0.0, 0.04, -0.04])
def test_the_frame_shown_nearest_to_a_time(film: Path, off: float) -> None:
    for n in (0, 1, 2, 13, 28, 29):
        image = frame_at(film, n / FPS + off, tolerance=0.05)
        assert image.shape == (32, 48, 3)
        assert image.dtype == np.uint8
        np.testing.assert_allclose(image.astype(int), 8 * n, atol=3)


def test_a_time_that_was_not_filmed(film: Path) -> None:
    with pytest.raises(BadInput, match=r"film.mp4 has no frame at 3.000 s: the dataset is incomplete"):
        frame_at(film, FRAMES / FPS, tolerance=0.05)
    with pytest.raises(BadInput, match="has no frame at 100.000 s"):
        frame_at(film, 100.0, tolerance=0.05)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_film(film: Path, tmp_path: Path, share: float) -> None:
    content = film.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadInput, match=r"cut.mp4 cannot be decoded .*: copy the dataset again"):
        frame_at(path, 1.0, tolerance=0.05)


def test_a_film_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none.mp4 cannot be decoded"):
        frame_at(tmp_path / "none.mp4", 1.0, tolerance=0.05)
