"""How a newer chunk takes over, by name."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np

from vla_runtime.chunks.blend import Blend
from vla_runtime.chunks.ensemble import Ensemble
from vla_runtime.chunks.motion import Motion
from vla_runtime.chunks.replace import Replace
from vla_runtime.chunks.schedule import Schedule
from vla_runtime.errors import BadInput

TAKEOVERS = ("replace", "blend", "ensemble", "rtc")


class Takeover(Protocol):
    """A strategy: makes the motion along a first chunk, which newer chunks then take over."""

    def __call__(self, schedule: Schedule) -> Motion: ...


def takeover(name: str, *, window: float = 0.15, decay: float = 0.01) -> Takeover:
    """The strategy of that name.

    replace: to the newest chunk by a short cubic. blend: cross-fade to it. ensemble: the mean of all chunks that ask
    something now, weighted exp(−decay · i) from the oldest on. rtc: the policy itself made the newest chunk agree with
    the one before (real-time chunking), so it is followed as with replace, whose cubic then has little to do.

    window: how long a takeover takes, in [s]. decay: the ensemble's.
    Raises `BadInput` for another name, a window that is not above 0 or a decay below 0.
    """
    if not (np.isfinite(window) and window > 0.0):
        raise BadInput(f"takeover window must be a finite number of seconds above 0, got {window}")
    if not (np.isfinite(decay) and decay >= 0.0):
        raise BadInput(f"ensemble decay must be a finite number, 0 or more, got {decay}")
    if name in ("replace", "rtc"):
        return partial(Replace, window=window)
    if name == "blend":
        return partial(Blend.first, window=window)
    if name == "ensemble":
        return partial(Ensemble.first, window=window, decay=decay)
    raise BadInput(f"chunk takeover '{name}' is unknown: choose from {', '.join(TAKEOVERS)}")
