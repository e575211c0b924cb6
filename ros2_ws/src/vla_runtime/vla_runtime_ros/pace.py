"""Keeping a rate without drifting."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Pace:
    """Deadlines at exact multiples of a period after the first call; a missed one is skipped, not caught up.

    rate: deadlines per second [Hz]. period: from one to the next, in [s].
    """

    def __init__(
        self, rate: float, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.period, self._clock, self._sleep = 1.0 / rate, clock, sleep
        self._start: float | None = None
        self._count = 0

    def wait(self) -> float:
        """Sleep until the next deadline; returns the time at which it woke, in [s] on ``clock``."""
        now = self._clock()
        if self._start is None:
            self._start = now
            return now
        self._count = max(self._count + 1, math.ceil((now - self._start) / self.period))
        self._sleep(max(0.0, self._start + self._count * self.period - now))
        return self._clock()
