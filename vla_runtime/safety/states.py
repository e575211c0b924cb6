"""What the arm is doing, why, and what it takes to do something else."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple


class ArmState(Enum):
    """DISABLED: nothing is sent. ENABLING: motor power was asked for; the measured position is held.
    HOLDING: the command brakes to rest and stays. TRACKING: action chunks are followed. PARKING: on the way to the park
    position. STOPPING: the arm is not where it was commanded; the command returns to the measured position, then
    HOLDING.
    """

    DISABLED = "disabled"
    ENABLING = "enabling"
    HOLDING = "holding"
    TRACKING = "tracking"
    PARKING = "parking"
    STOPPING = "stopping"


TRANSITIONS: Mapping[ArmState, frozenset[ArmState]] = MappingProxyType(
    {
        ArmState.DISABLED: frozenset({ArmState.ENABLING, ArmState.DISABLED}),
        ArmState.ENABLING: frozenset({ArmState.HOLDING, ArmState.DISABLED}),
        ArmState.HOLDING: frozenset({ArmState.TRACKING, ArmState.PARKING, ArmState.STOPPING, ArmState.DISABLED}),
        ArmState.TRACKING: frozenset({ArmState.HOLDING, ArmState.PARKING, ArmState.STOPPING, ArmState.DISABLED}),
        ArmState.PARKING: frozenset({ArmState.HOLDING, ArmState.STOPPING, ArmState.DISABLED}),
        ArmState.STOPPING: frozenset({ArmState.HOLDING, ArmState.DISABLED}),
    }
)

_REMEMBERED = 200


class Transition(NamedTuple):
    """One change of state, or of the reason for it. time: when, in [s] on the clock of the ticks."""

    time: float
    start: ArmState
    end: ArmState
    reason: str


class StateMachine:
    """One state and the reason for it.

    Holding comes in two kinds. A *pause* (`pause`) leaves the arm armed: it goes on by itself when its cause is gone.
    A *stop* (`stop`) disarms it: only `arm`, the user's word, lets chunks move it again. Within one stop the first
    reason stays: what came after is mostly its consequence.

    history: the newest changes of state and reason, the oldest first. ``now`` is when each happens, in [s].
    """

    def __init__(self) -> None:
        self.state = ArmState.DISABLED
        self.reason = "not enabled yet"
        self.armed = False
        self.history: deque[Transition] = deque(maxlen=_REMEMBERED)
        self._stopped = False

    def enter(self, state: ArmState, reason: str, now: float) -> None:
        """A wanted change of state. It ends a stop, and leaves the arm disarmed.

        Raises ValueError where `TRANSITIONS` does not allow it.
        """
        self._move(state, reason, now)
        self.armed = False
        self._stopped = False

    def arm(self, reason: str, now: float) -> None:
        """The user allows a holding arm to follow chunks; it ends a stop."""
        if self.state is not ArmState.HOLDING:
            raise ValueError(f"only a holding arm can be armed, not one that is {self.state.value}")
        self._record(self.state, reason, now)
        self.armed = True
        self._stopped = False

    def track(self, reason: str, now: float) -> None:
        """HOLDING to TRACKING, which only an armed arm may do."""
        if not self.armed:
            raise ValueError("an arm that is not armed cannot track")
        self._move(ArmState.TRACKING, reason, now)

    def pause(self, reason: str, now: float) -> None:
        """TRACKING to HOLDING, still armed."""
        self._move(ArmState.HOLDING, reason, now)

    def stop(self, reason: str, now: float) -> bool:
        """Moving states go to HOLDING, and any that has power is disarmed. Whether this was the stop's first reason."""
        if self.state in (ArmState.DISABLED, ArmState.ENABLING):
            return False
        moving = self.state in (ArmState.TRACKING, ArmState.PARKING)
        return self._disarm(ArmState.HOLDING if moving else self.state, reason, now)

    def give_way(self, reason: str, now: float) -> bool:
        """A stop by way of STOPPING. Whether this was the stop's first reason."""
        if self.state is not ArmState.STOPPING:
            self._check(ArmState.STOPPING)
        return self._disarm(ArmState.STOPPING, reason, now)

    def settle(self, now: float) -> None:
        """STOPPING to HOLDING; the stop and its reason stay."""
        self._move(ArmState.HOLDING, self.reason, now)

    def _disarm(self, state: ArmState, reason: str, now: float) -> bool:
        self.armed = False
        first, self._stopped = not self._stopped, True
        if first or state is not self.state:
            self._record(state, reason if first else self.reason, now)
        return first

    def _move(self, state: ArmState, reason: str, now: float) -> None:
        self._check(state)
        self._record(state, reason, now)

    def _check(self, state: ArmState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"an arm that is {self.state.value} cannot go to {state.value}")

    def _record(self, state: ArmState, reason: str, now: float) -> None:
        self.history.append(Transition(now, self.state, state, reason))
        self.state, self.reason = state, reason
