"""Single frames of a film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput


def frame_at(path: Path, time: float, tolerance: float) -> NDArray[np.uint8]:
    """The frame shown at ``time`` [s], or the nearest one if no further than ``tolerance`` [s] away.

    RGB, shape (height, width, 3). It decodes from the last key frame before it. Raises `BadInput` where the film is
    missing or damaged, or has no such frame.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadInput(f"{path} holds no video: copy the dataset again")
            distance, frame = _nearest(container, time)
            if frame is None or distance > tolerance:
                raise BadInput(f"{path} has no frame at {time:.3f} s: the dataset is incomplete, copy it again")
            return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    except (av.FFmpegError, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be decoded ({error}): copy the dataset again") from error


def _nearest(container: Any, time: float) -> tuple[float, Any]:
    stream = container.streams.video[0]
    container.seek(round(time / stream.time_base), stream=stream, backward=True, any_frame=False)
    distance, nearest = float("inf"), None
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        shown = float(frame.pts * stream.time_base)
        if abs(shown - time) < distance:
            distance, nearest = abs(shown - time), frame
        if shown >= time:
            break
    return distance, nearest
