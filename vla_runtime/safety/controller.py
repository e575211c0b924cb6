"""From chunks, requests and feedback to the one command of each control period."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES, ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.errors import BadInput
from vla_runtime.safety import interventions as kind
from vla_runtime.safety.limiter import Limiter
from vla_runtime.safety.limits import UNITS, ArmLimits
from vla_runtime.safety.settings import ControlSettings
from vla_runtime.safety.states import ArmState, StateMachine
from vla_runtime.safety.watchdog import Watchdog

__all__ = ["ArmController", "ControlSettings", "Tick"]

_JOINTS = slice(0, 6)
_FULL_TURN = 2 * np.pi
"""No joint of the arm can be this far from its zero, in [rad]; a reading that says so is false, as NaN is."""


@dataclass(frozen=True, eq=False)
class Tick:
    """What one control period comes to.

    state, reason: what the arm is doing, and why.
    command: what to send, joints in [rad], gripper in [m]. Shape (7,). None: send nothing.
    enable, disable: ask the arm for, or cut, motor power, once, before the command is sent.
    interventions: what the safety layer did since the tick before, by `vla_runtime.safety.interventions`.
    target: what the followed chunk asked before any limit. Shape (7,). None when no chunk is followed.
    observed: when what that chunk answers was observed, in [s]; None when no chunk is followed.
    needs_resume: no chunk moves the arm before `ArmController.request_resume`.
    """

    state: ArmState
    reason: str
    command: NDArray[np.float64] | None = None
    enable: bool = False
    disable: bool = False
    interventions: tuple[str, ...] = ()
    target: NDArray[np.float64] | None = None
    observed: float | None = None
    needs_resume: bool = True


class ArmController:
    """Decides what the arm is sent. Pure: no clock, no thread, no bus; ``now`` is [s] on the clock of all stamps.

    Every command is inside the position limits and within the velocity limits of the command of the tick before or,
    where that tick sent none or is longer ago than ``max_gap``, of the measured position. One thread at a time: whoever
    offers chunks or makes requests from another thread locks around the controller.

    A request returns None when it was granted, else why it was refused.

    Raises `BadInput` where the park position lies outside the limits.
    """

    def __init__(self, settings: ControlSettings, limits: ArmLimits) -> None:
        for i, joint in enumerate(JOINT_NAMES):
            low, park, high = limits.lower[i], settings.park_positions[i], limits.upper[i]
            if not low <= park <= high:
                raise BadInput(
                    f"park_positions of {joint}: {park:g} is outside its limits {low:g} … {high:g} {UNITS[i]}"
                )
        self._settings = settings
        self._machine = StateMachine()
        self._limiter = Limiter(limits, max_dt=2 * settings.period)
        parking = replace(limits, velocity=settings.park_speed * limits.velocity)
        self._park_limiter = Limiter(parking, max_dt=2 * settings.period)
        self._chunk_watchdog = Watchdog("newest chunk", settings.chunk_timeout, settings.max_future)
        self._feedback_watchdog = Watchdog("arm feedback", settings.feedback_timeout, settings.max_future)
        self._executor = self._new_executor()
        self._now: float | None = None
        self._feedback: ArmFeedback | None = None
        self._command: NDArray[np.float64] | None = None
        self._enable_asked = False
        self._enable_waited = 0.0
        self._disable = False
        self._counts = dict.fromkeys(kind.KINDS, 0)
        self._since_tick: list[str] = []

    @property
    def state(self) -> ArmState:
        """What the arm is doing."""
        return self._machine.state

    @property
    def interventions(self) -> Mapping[str, int]:
        """How often the safety layer intervened, by kind; every kind is there, from 0."""
        return MappingProxyType(self._counts)

    def offer(self, chunk: ActionChunk, now: float) -> str | None:
        """Take a chunk, whatever the state; it is followed while TRACKING. A chunk that is not finite stops the arm."""
        refusal = self._executor.offer(chunk, now)
        if refusal is not None:
            self._note(kind.CHUNK_REFUSED)
            if self._machine.armed and not np.isfinite(chunk.positions).all():
                self._stop(kind.NON_FINITE, refusal)
        return refusal

    def request_enable(self, now: float) -> str | None:
        """Power the motors, then hold. Granted at once where the arm has power; `tick` waits for fresh feedback."""
        if self._disable:
            return "the arm is being disabled"
        if self.state is ArmState.DISABLED:
            self._machine.enter(ArmState.ENABLING, "enable requested")
            self._enable_asked = False
            self._enable_waited = 0.0
        return None

    def request_hold(self, now: float, reason: str) -> None:
        """Stop at the last command until resumed. A stop that already has a reason keeps it."""
        self._machine.stop(reason)

    def request_resume(self, now: float) -> str | None:
        """Allow chunks to move the holding arm again, from the command it holds."""
        if self.state is ArmState.TRACKING:
            return None
        if self.state is not ArmState.HOLDING:
            return f"only a holding arm can resume; it is {self.state.value}"
        unfit = self._unfit(now)
        if unfit is None and not self._machine.armed:
            self._machine.arm("resumed, waiting for a chunk")
        return unfit

    def request_park(self, now: float) -> str | None:
        """Move to the park position, each joint straight to its own, at park speed; then hold."""
        if self.state is ArmState.PARKING:
            return None
        if self.state not in (ArmState.HOLDING, ArmState.TRACKING):
            return f"only a holding or tracking arm can park; it is {self.state.value}"
        unfit = self._unfit(now)
        if unfit is None:
            self._machine.enter(ArmState.PARKING, "park requested")
        return unfit

    def request_disable(self, now: float, force: bool = False) -> str | None:
        """Cut motor power. THE ARM DROPS, so it must rest at the park position, unless forced."""
        if not force:
            if self.state in (ArmState.TRACKING, ArmState.PARKING, ArmState.STOPPING):
                return f"the arm is {self.state.value} and would drop: park it first, or force"
            unsafe = self._unsound(now) or self._away_from_park()
            if unsafe is not None:
                return f"the arm could drop: {unsafe}; park it first, or force"
        self._machine.enter(ArmState.DISABLED, "disabled on request")
        self._disable = True
        return None

    def tick(self, now: float, feedback: ArmFeedback | None) -> Tick:
        """One control period at ``now``, with the newest feedback."""
        elapsed = self._elapsed(now)
        self._feedback = feedback
        unsound = self._unsound(now)
        measured = feedback.positions if feedback is not None and unsound is None else None
        enable = False
        if self.state is ArmState.ENABLING:
            enable = self._await_power(unsound, elapsed)
        elif self.state is not ArmState.DISABLED:
            self._supervise(unsound)
        self._pause_or_track(now)
        target = self._executor.target(now) if self.state is ArmState.TRACKING else None
        if self.state is ArmState.DISABLED or measured is None:
            # Blind, nothing is sent: the arm keeps its last target by itself, and what it has become is not known.
            self._command = None
        else:
            self._command = self._step(measured, target, elapsed)
        disable, self._disable = self._disable, False
        noted, self._since_tick = tuple(self._since_tick), []
        return Tick(
            state=self.state,
            reason=self._machine.reason,
            command=None if self._command is None else self._command.copy(),
            enable=enable,
            disable=disable,
            interventions=noted,
            target=target,
            observed=None if target is None else self._executor.followed_stamp,
            needs_resume=not self._machine.armed,
        )

    def _elapsed(self, now: float) -> float:
        """Time since the tick before, in [s]; 0 and a stop where the clock jumped."""
        gap = 0.0 if self._now is None else now - self._now
        if 0 <= gap <= self._settings.max_gap:
            self._now = now
            return gap
        self._stop(
            kind.CLOCK_JUMP, f"the clock moved by {gap:.3f} s in one period, limit {self._settings.max_gap:.3f} s"
        )
        self._executor = self._new_executor()  # its stamps belong to a time that is no more
        if gap > 0:
            self._command = None  # after so long a silence the arm may be anywhere
        if np.isfinite(now):
            self._now = now
        return 0.0

    def _unsound(self, now: float) -> str | None:
        """Why the measured position cannot be relied on; None when it can."""
        if self._feedback is None:
            return "no arm feedback yet"
        late = self._feedback_watchdog.complaint(self._feedback.stamp, now)
        if late is not None:
            return late
        positions = self._feedback.positions
        if positions.shape != (7,) or not np.all(np.abs(positions) <= _FULL_TURN):
            return "arm feedback is no possible posture"
        return None

    def _unfit(self, now: float) -> str | None:
        """Why the arm must not be set in motion; None when it may."""
        unsound = self._unsound(now)
        if unsound is not None or self._feedback is None:
            return unsound
        if self._feedback.faults:
            return _in_words(self._feedback.faults)
        return None if self._feedback.enabled else "the arm reports its motors off"

    def _await_power(self, unsound: str | None, elapsed: float) -> bool:
        """ENABLING goes on to HOLDING, or back. Whether to ask the arm for power now."""
        self._enable_waited += elapsed
        if self._feedback is not None and unsound is None:
            if self._feedback.faults:
                self._give_up_enabling(_in_words(self._feedback.faults))
                return False
            if not self._enable_asked:
                self._enable_asked = True
                return True
            if self._feedback.enabled:
                self._machine.enter(ArmState.HOLDING, "enabled")
                return False
        if self._enable_waited > self._settings.enable_timeout:
            self._give_up_enabling(unsound or f"no motor power within {self._settings.enable_timeout:.3f} s")
        return False

    def _give_up_enabling(self, reason: str) -> None:
        self._machine.enter(ArmState.DISABLED, f"not enabled: {reason}")
        self._note(kind.ENABLE_FAILED)

    def _supervise(self, unsound: str | None) -> None:
        """Stop an arm that has power for whatever its feedback says against it."""
        if unsound is not None or self._feedback is None:
            self._stop(kind.FEEDBACK_LOST, unsound or "")
            return
        if not self._feedback.enabled:
            self._machine.enter(ArmState.DISABLED, "the arm reports its motors off")
            self._note(kind.POWER_LOST)
            return
        if self._feedback.faults:
            self._stop(kind.ARM_FAULT, _in_words(self._feedback.faults))
        if self._command is not None:
            off = np.abs(self._command - self._feedback.positions)[_JOINTS]
            worst, limit = int(np.argmax(off)), self._settings.divergence
            if off[worst] > limit and self._machine.give_way(
                f"{JOINT_NAMES[worst]} is {off[worst]:.2f} rad from its command, limit {limit:.2f} rad"
            ):
                self._note(kind.DIVERGENCE)

    def _pause_or_track(self, now: float) -> None:
        """An armed arm follows chunks exactly while there is one to follow."""
        if not self._machine.armed:
            return
        stale = self._chunk_watchdog.complaint(self._executor.newest_stamp, now)
        silent = self._executor.silence(now) if self._executor.target(now) is None else None
        tracking = self.state is ArmState.TRACKING
        if stale is None and silent is None:
            if not tracking:
                self._machine.track("following chunks")
        elif tracking:
            self._machine.pause(stale or silent or "")
            self._note(kind.NO_ACTION_DUE if stale is None else kind.STALE_CHUNK)

    def _step(
        self, measured: NDArray[np.float64], target: NDArray[np.float64] | None, elapsed: float
    ) -> NDArray[np.float64]:
        """The next command, towards what the state wants."""
        unpowered = self.state is ArmState.ENABLING
        start = measured if unpowered or self._command is None else self._command
        desired, limiter = start, self._limiter
        if target is not None:
            desired = target
        elif self.state is ArmState.PARKING:
            desired, limiter = self._settings.park_positions, self._park_limiter
        elif self.state is ArmState.STOPPING:
            desired = np.append(measured[_JOINTS], start[6:])  # the gripper keeps what it grips
        command, kinds = limiter.step(desired, start, elapsed)
        for name in kinds:
            if name == kind.NON_FINITE:
                self._stop(kind.NON_FINITE, "the target is not finite")
            else:
                self._note(name)
        if self.state is ArmState.PARKING and np.array_equal(command, desired) and self._away_from_park() is None:
            self._machine.enter(ArmState.HOLDING, "parked")
        if self.state is ArmState.STOPPING:
            off = np.abs(command - measured)[_JOINTS]
            if off.max() <= self._settings.arrival_tolerance:
                self._machine.settle()
        return command

    def _away_from_park(self) -> str | None:
        """Which joint is farthest from its park position, in words; None when all are there."""
        if self._feedback is None:
            return "no arm feedback yet"
        off = np.abs(self._feedback.positions - self._settings.park_positions)[_JOINTS]
        worst = int(np.argmax(off))
        if off[worst] <= self._settings.arrival_tolerance:
            return None
        return f"{JOINT_NAMES[worst]} is {off[worst]:.2f} rad from its park position"

    def _stop(self, why: str, reason: str) -> None:
        if self._machine.stop(reason):
            self._note(why)

    def _note(self, name: str) -> None:
        self._counts[name] += 1
        self._since_tick.append(name)

    def _new_executor(self) -> ChunkExecutor:
        return ChunkExecutor(self._settings.chunk_timeout, self._settings.max_future)


def _in_words(faults: tuple[str, ...]) -> str:
    return "the arm reports " + ", ".join(faults)
