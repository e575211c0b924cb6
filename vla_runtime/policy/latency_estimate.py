"""How long the next inference will take, in whole actions: what real-time chunking freezes."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from vla_runtime.errors import BadInput

# An inference of exactly n periods takes n of them, whatever rounding says.
_ROUNDING = 1e-6


class LatencyEstimate:
    """A high percentile of the latest latencies, from an observation's stamp to the moment its chunk can be followed.

    Too many frozen actions make the policy a little blind, too few make the arm jump: hence the high percentile, and a
    chunk that came later still is rejected (`rejects`), never stretched.
    """

    def __init__(self, period: float, percentile: float = 95.0, window: int = 100) -> None:
        """period: of the actions, in [s]. percentile: by nearest rank, as in `vla_runtime.profiling.latency`.

        window: how many latencies are remembered. Raises `BadInput` for what no estimate can be made with.
        """
        if not 0 < period < math.inf:
            raise BadInput(f"the period of the actions is {period:g} s, expected a positive number")
        if not 0 < percentile <= 100:
            raise BadInput(f"the latency's percentile is {percentile:g}, expected one above 0 and at most 100")
        if window < 1:
            raise BadInput(f"{window} latencies cannot be remembered: at least one is needed")
        self._period, self._percentile = period, percentile
        self._latencies: deque[float] = deque(maxlen=window)

    def add(self, latency: float) -> None:
        """One more inference has taken this long, in [s], whether its chunk was rejected or not.

        Raises `BadInput` for a negative or infinite latency: the clock has jumped, and nothing was measured.
        """
        if not 0 <= latency < math.inf:
            raise BadInput(f"an inference cannot have taken {latency:g} s: the clock has jumped")
        self._latencies.append(latency)

    @property
    def seconds(self) -> float | None:
        """The estimate in [s]; None before any inference was measured."""
        if not self._latencies:
            return None
        return float(np.percentile(np.array(self._latencies), self._percentile, method="inverted_cdf"))

    @property
    def frozen(self) -> int | None:
        """How many actions are settled by then; None before any inference was measured.

        Those that the arm will have executed, d in the paper, and the one that it will be on its way to: between two
        actions the arm follows the line through both, so that with d alone it would have to turn half way.
        """
        seconds = self.seconds
        return None if seconds is None else self._periods(seconds) + 1

    def rejects(self, latency: float, frozen: int) -> str | None:
        """Why a chunk that took ``latency`` [s] and continues ``frozen`` actions cannot be followed; None if it can."""
        taken = self._periods(latency)
        if taken < frozen:
            return None
        return (
            f"inference took {latency * 1e3:.0f} ms, {taken} actions of {self._period * 1e3:.0f} ms, and the chunk "
            f"continues only {frozen}"
        )

    def _periods(self, seconds: float) -> int:
        return math.ceil(seconds / self._period - _ROUNDING)
