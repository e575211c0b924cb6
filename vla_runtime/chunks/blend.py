"""Cross-fading from what was asked to the newest chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.fade import fade
from vla_runtime.chunks.path import Path, Straight, mean_position, mean_velocity
from vla_runtime.chunks.schedule import Schedule

_MOST = 8  # cross-fades under way at once: what one target costs is bounded


@dataclass(frozen=True, eq=False)
class Blend:
    """Each chunk fades in over whatever was asked before it, another cross-fade included.

    newest: the newest chunk. window: how long a cross-fade takes, in [s].
    paths: what is followed, oldest first, the newest chunk last. fades: when each but the oldest began to fade in,
        in [s].

    The motion stays between what its chunks ask. A chunk that ends while it fades out goes on straight meanwhile; so
    does the whole motion where more than eight would fade at once.
    """

    newest: Schedule
    window: float
    paths: tuple[Path, ...]
    fades: tuple[float, ...] = ()

    @staticmethod
    def first(schedule: Schedule, window: float) -> Blend:
        """A chunk that nothing went before."""
        return Blend(schedule, window, (schedule,))

    @property
    def ends(self) -> float:
        return self.newest.ends

    def position(self, now: float) -> NDArray[np.float64]:
        return mean_position(self._weights(now)[0], self.paths, now)

    def velocity(self, now: float) -> NDArray[np.float64]:
        return mean_velocity(*self._weights(now), self.paths, now)

    def then(self, schedule: Schedule, now: float) -> Blend:
        past = sum(now - began >= self.window for began in self.fades)
        paths, fades = self.paths[past:], self.fades[past:]
        if len(fades) == _MOST:
            paths, fades = (Straight(now, np.stack((self.position(now), self.velocity(now)))),), ()
        return Blend(schedule, self.window, (*paths, schedule), (*fades, now))

    def _weights(self, now: float) -> tuple[Sequence[float], Sequence[float]]:
        """Of each path, and their rates in [1/s]; their sum is 1."""
        weights, rates = [1.0], [0.0]
        for began in self.fades:
            share, rise = fade(now - began, self.window)
            rates = [(1.0 - share) * rate - rise * weight for weight, rate in zip(weights, rates, strict=True)]
            weights = [(1.0 - share) * weight for weight in weights]
            weights.append(share)
            rates.append(rise)
        return weights, rates
