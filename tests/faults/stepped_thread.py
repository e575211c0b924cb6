"""A thread that runs only while simulated time stands still."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class SteppedThread:
    """Runs ``target`` up to its next `wait`, each time `step` finds that what it waits for has come.

    So two threads are one sequence of events, the same in every run, however long anything takes.
    """

    def __init__(self, target: Callable[[], None]) -> None:
        self._until, self._ready = -math.inf, _never
        self._go, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._ended = False
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(self._run, target)
        self._future.add_done_callback(lambda _: self._paused.release())

    @property
    def failed(self) -> bool:
        """It ended with an error."""
        return not self._ended and self._future.done()

    def wait(self, until: float, ready: Callable[[], bool] | None = None) -> None:
        """From within: do nothing until the simulated time ``until`` [s], or until ``ready`` at a step before."""
        self._until, self._ready = until, ready or _never
        self._paused.release()
        self._go.acquire()
        if self._ended:
            raise SystemExit

    def step(self, now: float) -> None:
        """From without: it is ``now`` [s]."""
        if not self._future.done() and (now >= self._until or self._ready()):
            self._go.release()
            self._paused.acquire()

    def end(self) -> None:
        """End it where it waits."""
        if not self._future.done():
            self._ended = True
            self._go.release()
        self._pool.shutdown()

    def _run(self, target: Callable[[], None]) -> None:
        self._go.acquire()
        if not self._ended:
            target()


def _never() -> bool:
    return False
