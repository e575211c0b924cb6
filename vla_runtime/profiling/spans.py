"""How long each stage took: cheap enough to stay on in the control path."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

CAPACITY = 4096


class Spans:
    """Durations by stage, the newest ``capacity`` of each; any thread may record and read.

        with spans.span("encode"):
            ...

    A span that ends in an exception is not recorded: a failed stage is no measurement of the stage.
    """

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.perf_counter) -> None:
        """``clock``: a monotonic time in [s]."""
        self._capacity = capacity
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: dict[str, deque[float]] = {}

    def span(self, stage: str) -> _Span:
        """A context that records its own duration under a stage."""
        return _Span(self, stage, self._clock)

    def record(self, stage: str, seconds: float) -> None:
        """Add one duration in [s]."""
        with self._lock:
            self._seconds.setdefault(stage, deque(maxlen=self._capacity)).append(seconds)

    def seconds(self, stage: str) -> NDArray[np.float64]:
        """The recorded durations of a stage, oldest first, in [s]; empty for one never recorded. Shape (n,)."""
        with self._lock:
            return np.array(self._seconds.get(stage, ()), np.float64)

    def stages(self) -> tuple[str, ...]:
        """Every recorded stage, in the order of their first record."""
        with self._lock:
            return tuple(self._seconds)

    def clear(self) -> None:
        """Forget everything, as after a warm-up."""
        with self._lock:
            self._seconds.clear()


class _Span:
    __slots__ = ("_clock", "_spans", "_stage", "_start")

    def __init__(self, spans: Spans, stage: str, clock: Callable[[], float]) -> None:
        self._spans, self._stage, self._clock = spans, stage, clock
        self._start = 0.0

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._spans.record(self._stage, self._clock() - self._start)
