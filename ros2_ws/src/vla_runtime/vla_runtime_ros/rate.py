"""How often something happens."""

from __future__ import annotations

import threading
from collections import deque


class Rate:
    """How often something happens, over the newest ``size`` times it did. Any thread may count, any may ask."""

    def __init__(self, size: int = 50) -> None:
        self._times: deque[float] = deque(maxlen=size)
        self._lock = threading.Lock()

    def tick(self, now: float) -> None:
        """It happened at ``now`` in [s]."""
        with self._lock:
            self._times.append(now)

    def per_second(self, now: float) -> float:
        """Times per second; falls towards 0 as ``now`` moves away from the last one."""
        with self._lock:
            times = list(self._times)
        if len(times) < 2:
            return 0.0
        span = times[-1] - times[0]
        silence = max(0.0, now - times[-1] - span / (len(times) - 1))
        return (len(times) - 1) / (span + silence) if span > 0 else 0.0
