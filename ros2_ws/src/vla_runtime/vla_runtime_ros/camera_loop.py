"""Pictures of the simulated scene, at a steady rate, in the one thread that may render."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import VlaError
from vla_runtime.profiling.spans import Spans
from vla_runtime.sim.cameras import Cameras
from vla_runtime.sim.scene import Scene
from vla_runtime.sim.video import VideoWriter
from vla_runtime_ros.pace import Pace

SAMPLES = 4
"""Samples per pixel of a camera's pictures, as in those a policy is trained on; the film does without."""

FILM_CAMERA = "view"
FILM_SIZE, FILM_RATE = (480, 480), 10
"""Height and width in [px], frames per second: enough to watch, little enough to render beside a policy."""


class CameraLoop:
    """Renders every camera once a period and delivers the pictures; films the scene where asked.

    deliver: called with (camera, time in [s], RGB picture (height, width, 3)) from the loop's thread.
    delivering: while not set, nothing is rendered.
    spans: how long one picture and one frame of the film took.
    ready: done once rendering works, or holds the `VlaError` that says why it does not.
    """

    def __init__(
        self,
        scene: Scene,
        cameras: Sequence[str],
        size: tuple[int, int],
        rate: float,
        deliver: Callable[[str, float, NDArray[np.uint8]], None],
        film: Path | None,
    ) -> None:
        self._scene, self._names, self._size, self._rate = scene, cameras, size, rate
        self._deliver, self._film = deliver, film
        self.delivering = threading.Event()
        self.spans = Spans()
        self.ready: Future[None] = Future()

    def run(self, stopping: threading.Event) -> None:
        """Render until ``stopping`` is set."""
        with ExitStack() as resources:
            try:
                cameras = self._open(resources, self._size, SAMPLES)
                film = self._open_film(resources)
            except VlaError as error:
                self.ready.set_exception(error)
                return
            self.ready.set_result(None)
            pace = Pace(self._rate)
            while not stopping.is_set():
                woke = pace.wait()
                if not self.delivering.is_set():
                    continue
                for name in self._names:
                    taken = time.time()
                    with self.spans.span("render"):
                        picture = cameras.render(name)
                    self._deliver(name, taken, picture)
                if film is not None:
                    film(woke)

    def _open(self, resources: ExitStack, size: tuple[int, int], samples: int) -> Cameras:
        cameras = Cameras(self._scene, *size, samples=samples)
        resources.callback(cameras.close)
        return cameras

    def _open_film(self, resources: ExitStack) -> Callable[[float], None] | None:
        if self._film is None:
            return None
        camera = self._open(resources, FILM_SIZE, samples=0)
        writer = resources.enter_context(VideoWriter(self._film, FILM_RATE))
        started: list[float] = []
        written = 0

        def write(now: float) -> None:
            """One picture for all frames due by ``now``: a slow machine makes a jerky film, not a fast one."""
            nonlocal written
            started[:] = started or [now]
            due = int((now - started[0]) * FILM_RATE) + 1
            if written < due:
                with self.spans.span("film"):
                    picture = camera.render(FILM_CAMERA)
                    for _ in range(written, due):
                        writer.write(picture)
                written = due

        return write


def focal_length(scene: Scene, camera: str, height: int) -> float:
    """Focal length of a pinhole with the camera's vertical field of view and square pixels, in [px]."""
    return height / 2 / math.tan(math.radians(float(scene.model.camera(camera).fovy[0])) / 2)
