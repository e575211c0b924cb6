"""The mean of all chunks that speak of the same time: temporal ensembling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.fade import fade
from vla_runtime.chunks.path import Path, Straight, mean_position, mean_velocity
from vla_runtime.chunks.schedule import Schedule

_MOST = 24  # chunks in the mean, and another as many leaving it: what one target costs is bounded


@dataclass(frozen=True, eq=False)
class Member:
    """A path in the mean. enters, leaves: when it begins to fade in and out, in [s]."""

    path: Path
    enters: float
    leaves: float

    def presence(self, now: float, window: float) -> tuple[float, float]:
        """From 0 to 1, and its rate in [1/s]."""
        if self.enters + window <= now <= self.leaves:
            return 1.0, 0.0
        entered, entering = fade(now - self.enters, window)
        left, leaving = fade(now - self.leaves, window)
        return entered * (1.0 - left), entering * (1.0 - left) - entered * leaving


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Weights exp(−decay · i) over all chunks that ask something now, i = 0 the oldest (ACT, arXiv 2304.13705).

    So that velocity stays continuous, a chunk fades in within ``window`` [s] after it came and fades out within
    ``window`` after its end, going on straight; a chunk half faded in counts half, in the mean and in the i of those
    after it. The motion stays between what its chunks ask.

    members: oldest first. Of more than 24 the oldest leaves early; where twice as many would be there at once, the
    motion so far goes on straight and fades out as one.
    """

    members: tuple[Member, ...]
    window: float
    decay: float

    @staticmethod
    def first(schedule: Schedule, window: float, decay: float) -> Ensemble:
        """A chunk that nothing went before."""
        return Ensemble((Member(schedule, -np.inf, schedule.ends),), window, decay)

    @property
    def ends(self) -> float:
        return max(member.leaves for member in self.members)

    def position(self, now: float) -> NDArray[np.float64]:
        return mean_position(self._weights(now)[0], [member.path for member in self.members], now)

    def velocity(self, now: float) -> NDArray[np.float64]:
        return mean_velocity(*self._weights(now), [member.path for member in self.members], now)

    def then(self, schedule: Schedule, now: float) -> Ensemble:
        kept = [member for member in self.members if now - member.leaves < self.window]
        staying = [index for index, member in enumerate(kept) if member.leaves > now]
        if len(staying) == _MOST:
            kept[staying[0]] = replace(kept[staying[0]], leaves=now)
        if len(kept) == 2 * _MOST:
            so_far = Straight(now, np.stack((self.position(now), self.velocity(now))))
            kept = [Member(so_far, -np.inf, now)]
        return Ensemble((*kept, Member(schedule, now, schedule.ends)), self.window, self.decay)

    def _weights(self, now: float) -> tuple[Sequence[float], Sequence[float]]:
        """Of each member, and their rates in [1/s]; their sum is 1."""
        shares, share_rates = [], []
        older, older_rate = 0.0, 0.0
        for member in self.members:
            present, rate = member.presence(now, self.window)
            decayed = exp(-self.decay * older)
            shares.append(decayed * present)
            share_rates.append(decayed * (rate - self.decay * older_rate * present))
            older += present
            older_rate += rate
        total, total_rate = sum(shares), sum(share_rates)
        weights = [share / total for share in shares]
        rates = [(rate - weight * total_rate) / total for rate, weight in zip(share_rates, weights, strict=True)]
        return weights, rates
