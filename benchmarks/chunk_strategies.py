"""The ways from one chunk to the next that are compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.schedule import Schedule
from vla_runtime.chunks.takeover import Takeover, takeover
from vla_runtime.policy.rtc import Rtc

WINDOW = 0.15  # [s], the default of the arm node
SWITCH = "switch"


@dataclass(frozen=True, eq=False)
class Switch:
    """The newest chunk from the moment it comes, wherever it is: a `Motion` that jumps."""

    schedule: Schedule

    @property
    def ends(self) -> float:
        return self.schedule.ends

    def position(self, now: float) -> NDArray[np.float64]:
        return self.schedule.position(now)

    def velocity(self, now: float) -> NDArray[np.float64]:
        return self.schedule.velocity(now)

    def then(self, schedule: Schedule, now: float) -> Switch:
        return Switch(schedule)


@dataclass(frozen=True)
class Strategy:
    """How the executor follows chunks, and whether the policy makes them continue one another."""

    name: str
    takeover: Takeover
    rtc: Rtc | None = None


STRATEGIES = (
    Strategy(SWITCH, Switch),
    Strategy("replace", takeover("replace", window=WINDOW)),
    Strategy("blend", takeover("blend", window=WINDOW)),
    Strategy("ensemble", takeover("ensemble", window=WINDOW)),
    Strategy("rtc hard", takeover("rtc", window=WINDOW), Rtc("hard")),
    Strategy("rtc identity", takeover("rtc", window=WINDOW), Rtc("identity")),
    Strategy("rtc guided", takeover("rtc", window=WINDOW), Rtc("guided")),
)
