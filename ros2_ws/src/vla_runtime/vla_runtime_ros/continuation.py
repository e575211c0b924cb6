"""What a new chunk has to continue, in real-time chunking: the chunk before it, as far as the arm really follows it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput
from vla_runtime.policy.latency_estimate import LatencyEstimate
from vla_runtime.policy.rtc import PreviousChunk, still_to_come


class Continuation:
    """The former chunk and how long an answer takes, from observation to publication.

    A chunk continues the former one only where the arm follows it: measured farther than ``tolerance`` from what the
    former chunk asks at that moment, the arm holds, or obeys somebody else, and a chunk that went on from there would
    be about an arm that does not exist.
    """

    def __init__(
        self, rate: float, percentile: float, tolerance: float, measured: Sequence[str], commanded: Sequence[str]
    ) -> None:
        """rate: of the actions, in [Hz]. percentile: of the latencies, see `LatencyEstimate`. tolerance: in [rad].

        measured, commanded: the names of the joints that are observed, and of those that have targets. Joints in both
        are compared; the gripper is not, which closed on an object is never where it was told to be.
        """
        shared = [name for name in commanded if name in measured and name != "gripper"]
        self._measured = [list(measured).index(name) for name in shared]
        self._commanded = [list(commanded).index(name) for name in shared]
        self._period, self._tolerance = 1.0 / rate, tolerance
        self._latency = LatencyEstimate(self._period, percentile)
        self._former: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None

    @property
    def latency(self) -> float | None:
        """What an answer is expected to take, in [s]; None before the first."""
        return self._latency.seconds

    @property
    def frozen(self) -> int | None:
        """How many actions of the former chunk a new one keeps; None before the first answer."""
        return self._latency.frozen

    def forget(self) -> None:
        """The next chunk stands alone: another task."""
        self._former = None

    def previous(self, stamp: float, measured: NDArray[np.float64]) -> PreviousChunk | None:
        """What a chunk continues that answers the joints ``measured`` (n,) at ``stamp`` [s]; None for nothing."""
        frozen = self._latency.frozen
        if self._former is None or frozen is None or stamp < self._former[0]:
            return None
        began, actions, targets = self._former
        coming = still_to_come(actions, self._period, stamp - began)
        if len(coming) == 0:
            return None
        asked = still_to_come(targets, self._period, stamp - began)[0]
        away = np.abs(asked[self._commanded] - measured[self._measured])
        if not away.size or away.max() > self._tolerance:
            return None
        return PreviousChunk(coming, frozen)

    def answered(
        self,
        stamp: float,
        actions: NDArray[np.float64],
        targets: NDArray[np.float64],
        previous: PreviousChunk | None,
        now: float,
    ) -> str | None:
        """The answer to the observation at ``stamp`` [s] is ready at ``now``. Why it must not be followed, or None.

        actions: (H, n_action), targets: (H, n joints); the former chunk of the next one where they may be followed.
        """
        try:
            self._latency.add(now - stamp)
        except BadInput as error:
            self.forget()
            return str(error)
        if previous is not None:
            refusal = self._latency.rejects(now - stamp, previous.frozen)
            if refusal is not None:
                return refusal
        self._former = (stamp, actions, targets)
        return None
