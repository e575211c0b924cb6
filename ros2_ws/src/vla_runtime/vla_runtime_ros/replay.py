"""A bag played once more: in its own time, or faster or slower, as if it happened now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path

from vla_runtime_ros import bag
from vla_runtime_ros.bag import Recorded

_NANO = 1e-9

Shift = Callable[[float], float]
"""From a time on the clock of the recording to the present, in [s]."""


class Replay:
    """Plays the messages on some topics of a bag; every time in them is to be moved with the ``Shift`` they come with.

    One straight line maps recorded to present time, ages and distances between stamps with it, so that what belonged
    together still does: played at double rate, everything is half as old.

    deliver: called with each message when it is due.
    played: how far it has come, in [s] of the recording. passes: how often it went through.
    """

    def __init__(
        self,
        root: Path,
        topics: Collection[str],
        rate: float,
        loop: bool,
        deliver: Callable[[Recorded, Shift], None],
        clock: Callable[[], float],
    ) -> None:
        """rate: seconds of the recording in one second. loop: begin anew at its end."""
        self._root, self._topics, self._rate, self._loop = root, topics, rate, loop
        self._deliver, self._clock = deliver, clock
        self.played = 0.0
        self.passes = 0

    def run(self, stopping: threading.Event) -> None:
        """Play until the end, or until ``stopping`` is set. Raises `BadInput` where the bag cannot be read."""
        while not stopping.is_set():
            self._play(stopping)
            if stopping.is_set():
                return
            self.passes += 1
            if not self._loop:
                return

    def _play(self, stopping: threading.Event) -> None:
        began, first = self._clock(), 0.0

        def shift(time: float) -> float:
            return began + (time - first) / self._rate

        with bag.opened(self._root) as reader:
            first = reader.start_time * _NANO
            for message in bag.recorded(reader, self._topics):
                time = message.time * _NANO
                if stopping.wait(max(0.0, shift(time) - self._clock())):
                    return
                self.played = time - first
                self._deliver(message, shift)
