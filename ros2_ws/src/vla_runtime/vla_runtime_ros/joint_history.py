"""Where the joints were at any moment of the last seconds."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import numpy as np
from numpy.typing import NDArray


class JointHistory:
    """The newest ``size`` joint positions, in the order of their stamps, and what lies between them.

    One measured before the newest is dropped. One so much older that it cannot have been overtaken on its way, by more
    than ``reorder`` [s], means that the clock was set back: what was measured on the clock of before is forgotten.
    """

    def __init__(self, size: int, reorder: float) -> None:
        self._stamps: deque[float] = deque(maxlen=size)
        self._positions: deque[NDArray[np.float64]] = deque(maxlen=size)
        self._reorder = reorder

    @property
    def newest(self) -> float | None:
        """The stamp of the newest, in [s]; None before the first."""
        return self._stamps[-1] if self._stamps else None

    def put(self, stamp: float, positions: NDArray[np.float64]) -> None:
        """Positions measured at ``stamp`` [s]. Shape (n,)."""
        if self._stamps and stamp <= self._stamps[-1]:
            if self._stamps[-1] - stamp <= self._reorder:
                return
            self.clear()
        self._stamps.append(stamp)
        self._positions.append(positions)

    def clear(self) -> None:
        """Forget everything."""
        self._stamps.clear()
        self._positions.clear()

    def at(self, stamp: float) -> tuple[NDArray[np.float64], float]:
        """The positions at ``stamp`` [s] and how far from it the nearest measurement was, in [s].

        Between two measurements on the straight line from one to the other; outside of all, the nearest one. Shape
        (n,). Raises ``IndexError`` where nothing was measured.
        """
        after = bisect_left(self._stamps, stamp)
        if after == 0:
            return self._positions[0], self._stamps[0] - stamp
        if after == len(self._stamps):
            return self._positions[-1], stamp - self._stamps[-1]
        begin, end = self._stamps[after - 1], self._stamps[after]
        share = (stamp - begin) / (end - begin)
        between = (1.0 - share) * self._positions[after - 1] + share * self._positions[after]
        return between, min(stamp - begin, end - stamp)
