"""An audit that remembers when each target came."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.audit import Audit


class HearingAudit(Audit):
    """Counts as every audit does, and keeps what it counted.

    heard: the targets of all coordinates as they stood after each time in [s] at which some came; NaN before the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[float, NDArray[np.float64]] = {}
        self._newest = np.full(7, np.nan)

    def target(self, first: int, steps: tuple[int, ...], time: float) -> list[bool]:
        self._newest[first : first + len(steps)] = np.array(steps) * frames.UNITS[first : first + len(steps)]
        self.heard[time] = self._newest.copy()
        return super().target(first, steps, time)
