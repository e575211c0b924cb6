"""What the arm is doing, why, and what it takes to do something else."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class ArmState(Enum):
    """DISABLED: nothing is sent. ENABLING: motor power was asked for; the measured position is held.
    HOLDING: the last command is held. TRACKING: action chunks are followed. PARKING: on the way to the park position.
    STOPPING: the arm is not where it was commanded; the command returns to the measured position, then HOLDING.
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


class StateMachine:
    """One state and the reason for it.

    Holding comes in two kinds. A *pause* (`pause`) leaves the arm armed: it goes on by itself when its cause is gone.
    A *stop* (`stop`) disarms it: only `arm`, the user's word, lets chunks move it again. Within one stop the first
    reason stays: what came after is mostly its consequence.
    """

    def __init__(self) -> None:
        self.state = ArmState.DISABLED
        self.reason = "not enabled yet"
        self.armed = False
        self._stopped = False

    def enter(self, state: ArmState, reason: str) -> None:
        """A wanted change of state. It ends a stop, and leaves the arm disarmed.

        Raises ValueError where `TRANSITIONS` does not allow it.
        """
        self._move(state)
        self.reason = reason
        self.armed = False
        self._stopped = False

    def arm(self, reason: str) -> None:
        """The user allows a holding arm to follow chunks; it ends a stop."""
        if self.state is not ArmState.HOLDING:
            raise ValueError(f"only a holding arm can be armed, not one that is {self.state.value}")
        self.reason = reason
        self.armed = True
        self._stopped = False

    def track(self, reason: str) -> None:
        """HOLDING to TRACKING, which only an armed arm may do."""
        if not self.armed:
            raise ValueError("an arm that is not armed cannot track")
        self._move(ArmState.TRACKING)
        self.reason = reason

    def pause(self, reason: str) -> None:
        """TRACKING to HOLDING, still armed."""
        self._move(ArmState.HOLDING)
        self.reason = reason

    def stop(self, reason: str) -> bool:
        """Moving states go to HOLDING, and any that has power is disarmed. Whether this was the stop's first reason."""
        if self.state in (ArmState.DISABLED, ArmState.ENABLING):
            return False
        if self.state in (ArmState.TRACKING, ArmState.PARKING):
            self._move(ArmState.HOLDING)
        return self._disarm(reason)

    def give_way(self, reason: str) -> bool:
        """A stop by way of STOPPING. Whether this was the stop's first reason."""
        if self.state is not ArmState.STOPPING:
            self._move(ArmState.STOPPING)
        return self._disarm(reason)

    def settle(self) -> None:
        """STOPPING to HOLDING; the stop and its reason stay."""
        self._move(ArmState.HOLDING)

    def _disarm(self, reason: str) -> bool:
        self.armed = False
        if self._stopped:
            return False
        self._stopped = True
        self.reason = reason
        return True

    def _move(self, state: ArmState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"an arm that is {self.state.value} cannot go to {state.value}")
        self.state = state
