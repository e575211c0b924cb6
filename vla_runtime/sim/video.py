"""A film of the scene: H.264 in MP4, which every browser plays."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput, WorkFailed


class VideoWriter:
    """Write pictures as frames of a film. A context manager: the file gets its name only when all went well."""

    def __init__(self, path: Path, fps: int) -> None:
        """``path`` ends in .mp4; ``fps``: frames a second. Raises `BadInput` for another ending."""
        import av

        if path.suffix != ".mp4":
            raise BadInput(f"film '{path}' must end in .mp4")
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._frame = av.VideoFrame.from_ndarray
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(str(self._partial), mode="w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=fps, options={"crf": "20", "preset": "veryfast"})
        self._stream.pix_fmt = "yuv420p"
        self._size: tuple[int, ...] | None = None

    def write(self, picture: NDArray[np.uint8]) -> None:
        """Add one RGB frame, shape (height, width, 3), both even. Raises ``ValueError`` when the shape changes."""
        if self._size is None:
            height, width = picture.shape[:2]
            if height % 2 or width % 2:
                raise ValueError(f"a film of {height}×{width} pixels: yuv420p needs even numbers")
            self._size, self._stream.height, self._stream.width = picture.shape, height, width
        if picture.shape != self._size:
            raise ValueError(f"frame of shape {picture.shape} in a film of {self._size}")
        self._container.mux(self._stream.encode(self._frame(picture, format="rgb24")))

    def close(self) -> None:
        """Finish the film and give it its name. Raises `WorkFailed` when it has no frames."""
        if self._size is None:
            self.discard()
            raise WorkFailed(f"film '{self._path}' has no frames")
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._partial.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
