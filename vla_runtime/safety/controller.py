"""From chunks, requests and feedback to the one command of each control period."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES, ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import BadInput
from vla_runtime.safety import interventions as kind
from vla_runtime.safety.limits import UNITS, ArmLimits
from vla_runtime.safety.mover import Mover
from vla_runtime.safety.power import PowerRequest, PowerStep
from vla_runtime.safety.settings import ControlSettings
from vla_runtime.safety.soundness import Soundness, in_words
from vla_runtime.safety.states import ArmState, StateMachine, Transition
from vla_runtime.safety.tick import Tick
from vla_runtime.safety.watchdog import Watchdog, Watchdogs
from vla_runtime.safety.workspace import PIPER_WORKSPACE, Workspace

__all__ = ["ArmController", "ControlSettings", "Tick"]

_JOINTS = slice(0, 6)
_THERE = 1e-5  # [rad] or [m], less than the arm can be told


class ArmController:
    """Decides what the arm is sent. Pure: no clock, no thread, no bus; ``now`` is [s] on the clock of all stamps.

    From the first command after power on, the commands keep the limits of position, velocity, acceleration and jerk
    (`vla_runtime.safety.limiter` says how they are measured), and from each of them the arm can brake to rest inside
    the position limits and the workspace, above the table and clear of itself. Whatever goes wrong, the command brakes
    along that way. It begins anew, at the measured position, only where it and the arm have parted while nothing was
    sent. One thread at a time: whoever offers chunks or makes requests from another thread locks around the controller.

    A request returns None when it was granted, else why it was refused.

    Raises `BadInput` where the park position lies outside the limits, or where the arm may not be.
    """

    def __init__(self, settings: ControlSettings, limits: ArmLimits, workspace: Workspace = PIPER_WORKSPACE) -> None:
        for i, joint in enumerate(JOINT_NAMES):
            low, park, high = limits.lower[i], settings.park_positions[i], limits.upper[i]
            if not low <= park <= high:
                raise BadInput(
                    f"park_positions of {joint}: {park:g} is outside its limits {low:g} … {high:g} {UNITS[i]}"
                )
        self._settings = settings
        self._machine = StateMachine()
        self._mover = Mover(limits, workspace, settings.park_speed)
        violation = self._mover.forbidden_rest(settings.park_positions)
        if violation is not None:
            raise BadInput(f"park_positions: {violation.reason}")
        self._power = PowerRequest(settings.enable_timeout, settings.enable_interval)
        self._soundness = Soundness(settings.feedback_timeout, settings.max_future)
        self._chunk_watchdog = Watchdog("newest chunk", settings.chunk_timeout, settings.max_future)
        self._watchdogs = Watchdogs(settings.watchdogs, settings.max_future)
        self._executor = settings.new_executor()
        self._now: float | None = None
        self._feedback: ArmFeedback | None = None
        self._firmware: str | None = None
        self._silent = False
        self._begun = False
        self._late = 0.0
        self._disable = False
        self._counts = dict.fromkeys(kind.KINDS, 0)
        self._since_tick: list[str] = []

    @property
    def state(self) -> ArmState:
        """What the arm is doing."""
        return self._machine.state

    @property
    def history(self) -> tuple[Transition, ...]:
        """The newest changes of state and reason, the oldest first."""
        return tuple(self._machine.history)

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
                self._stop(kind.NON_FINITE, refusal, now)
        return refusal

    def heard(self, name: str, stamp: float) -> str | None:
        """What `ControlSettings.watchdogs` calls ``name`` came, stamped ``stamp`` [s]. Why it is not taken, or None."""
        return self._watchdogs.heard(name, stamp)

    def overran(self, seconds: float) -> None:
        """The work of a period took ``seconds`` longer than the period; `tick` notices by itself when it comes late."""
        self._late = max(self._late, seconds)

    def failed(self, reason: str, now: float) -> None:
        """What the last tick said could not be sent: the arm is stopped, or its enabling given up."""
        if self.state is ArmState.ENABLING:
            self._give_up_enabling(reason, now)
        else:
            self._stop(kind.SEND_FAILED, reason, now)

    def request_enable(self, now: float) -> str | None:
        """Power the motors, then hold. Granted at once where the arm has power; `tick` waits for fresh feedback."""
        if self._disable:
            return "the arm is being disabled"
        if self.state is ArmState.DISABLED:
            if self._power.too_soon is not None:
                return self._power.too_soon
            self._machine.enter(ArmState.ENABLING, "enable requested", now)
            self._power.begin()
        return None

    def request_hold(self, now: float, reason: str) -> None:
        """Brake to rest and stay there until resumed. A stop that already has a reason keeps it."""
        self._machine.stop(reason, now)

    def request_resume(self, now: float) -> str | None:
        """Allow chunks to move the holding arm again, from the command it holds."""
        if self.state is ArmState.TRACKING:
            return None
        if self.state is not ArmState.HOLDING:
            return f"only a holding arm can resume; it is {self.state.value}"
        unfit = self._soundness.unfit(self._feedback, now)
        if unfit is None and not self._machine.armed:
            self._machine.arm("resumed, waiting for a chunk", now)
        return unfit

    def request_park(self, now: float) -> str | None:
        """Move to the park position, each joint straight to its own, at park speed; then hold."""
        if self.state is ArmState.PARKING:
            return None
        if self.state not in (ArmState.HOLDING, ArmState.TRACKING):
            return f"only a holding or tracking arm can park; it is {self.state.value}"
        unfit = self._soundness.unfit(self._feedback, now)
        if unfit is None:
            self._machine.enter(ArmState.PARKING, "park requested", now)
        return unfit

    def request_disable(self, now: float, force: bool = False) -> str | None:
        """Cut motor power. THE ARM DROPS, so it must rest at the park position, unless forced."""
        if not force:
            if self.state in (ArmState.TRACKING, ArmState.PARKING, ArmState.STOPPING) or not self._mover.at_rest:
                return f"the arm is {self.state.value} and would drop: park it first, or force"
            unsafe = self._soundness.unsound(self._feedback, now) or self._away_from_park()
            if unsafe is not None:
                return f"the arm could drop: {unsafe}; park it first, or force"
        self._machine.enter(ArmState.DISABLED, "disabled on request", now)
        self._disable = True
        return None

    def tick(self, now: float, feedback: ArmFeedback | None, passed: float | None = None) -> Tick:
        """One control period at ``now``, with the newest feedback.

        passed: time since the tick before, in [s], on a clock that nobody sets; None where there was none, or no such
        clock. Motion is limited in it: somebody who sets the clock of the stamps does not make the arm faster.
        """
        elapsed = self._elapsed(now, passed)
        self._power.pass_time(elapsed)
        self._feedback = feedback
        unsound = self._soundness.unsound(feedback, now) or self._unknown_firmware()
        measured = feedback if unsound is None else None
        self._find(measured)
        enable = False
        if self.state is ArmState.ENABLING:
            enable = self._await_power(measured, unsound, now)
        elif self.state is not ArmState.DISABLED:
            self._supervise(unsound, now)
        late = self._lateness(elapsed)
        self._pause_or_track(late, now)
        target = self._executor.target(now) if self.state is ArmState.TRACKING else None
        command = self._command(measured, target, elapsed, late is not None, now)
        if self.state is not ArmState.TRACKING:
            target = None
        disable, self._disable = self._disable, False
        noted, self._since_tick = tuple(self._since_tick), []
        return Tick(
            state=self.state,
            reason=self._machine.reason,
            command=command,
            enable=enable,
            disable=disable,
            interventions=noted,
            target=target,
            observed=None if target is None else self._executor.followed_stamp,
            needs_resume=not self._machine.armed,
        )

    def _elapsed(self, now: float, passed: float | None) -> float:
        """Time since the tick before, in [s]. A clock that jumps, or a loop that stood still, stops the arm."""
        moved = 0.0 if self._now is None else now - self._now
        if np.isfinite(now):
            self._now = now
        elapsed, limit = moved if passed is None else passed, self._settings.max_gap
        jumped = not abs(moved - elapsed) <= self._settings.max_future  # true of a time that is no number
        if not jumped and 0 <= elapsed <= limit:
            return elapsed
        reason = f"the clock moved by {moved:.3f} s in one period, limit {limit:.3f} s"
        if passed is not None:
            stood = f"the control loop stood still for {passed:.3f} s, limit {limit:.3f} s"
            reason = f"the clock moved by {moved:.3f} s while {passed:.3f} s passed" if jumped else stood
        self._stop(kind.CLOCK_JUMP, reason, now)
        self._executor = self._settings.new_executor()  # its stamps belong to a time that is no more
        self._watchdogs.forget()
        self._silent |= elapsed > limit  # without another clock, perhaps no jump: nothing was sent for so long
        return elapsed if 0 <= elapsed <= limit else self._settings.period

    def _lateness(self, elapsed: float) -> str | None:
        """Why this period comes too late to go on as if nothing was; None when it does not."""
        late, self._late = max(elapsed - self._settings.period, self._late), 0.0
        limit = self._settings.overrun_timeout
        return None if late <= limit else f"the control loop is {late:.3f} s late, limit {limit:.3f} s"

    def _unknown_firmware(self) -> str | None:
        """Let the mover know the arm's firmware; why that cannot be, None where it can."""
        firmware = None if self._feedback is None else self._feedback.firmware
        if firmware is not None and firmware != self._firmware:
            try:
                self._mover.know_firmware(firmware)
            except BadInput as error:
                return f"arm feedback comes from an unknown arm: {error}"
            self._firmware = firmware
        return None

    def _find(self, measured: ArmFeedback | None) -> None:
        """After a silence, begin anew where the arm is, if it is elsewhere."""
        if measured is None or not self._silent:
            return
        self._silent = False
        command = self._mover.position
        if command is None or np.abs(command - measured.positions)[_JOINTS].max() > self._settings.divergence:
            self._begin(measured)

    def _begin(self, measured: ArmFeedback) -> None:
        """The command of this tick is the measured position."""
        self._mover.start(measured.positions, measured.velocities)
        self._begun = True

    def _await_power(self, measured: ArmFeedback | None, unsound: str | None, now: float) -> bool:
        """ENABLING goes on to HOLDING, or back. Whether to ask the arm for power now."""
        step = self._power.advance(self._feedback, unsound)
        if step is PowerStep.THERE and measured is not None:
            self._machine.enter(ArmState.HOLDING, "enabled", now)
            self._begin(measured)
        elif isinstance(step, str):
            self._give_up_enabling(step, now)
        return step is PowerStep.ASK

    def _give_up_enabling(self, reason: str, now: float) -> None:
        self._machine.enter(ArmState.DISABLED, f"not enabled: {reason}", now)
        self._note(kind.ENABLE_FAILED)

    def _supervise(self, unsound: str | None, now: float) -> None:
        """Stop an arm that has power for whatever its feedback says against it."""
        if unsound is not None or self._feedback is None:
            self._stop(kind.FEEDBACK_LOST, unsound or "", now)
            return
        if not self._feedback.enabled:
            self._machine.enter(ArmState.DISABLED, "the arm reports its motors off", now)
            self._note(kind.POWER_LOST)
            return
        if self._feedback.faults:
            self._stop(kind.ARM_FAULT, in_words(self._feedback.faults), now)
        command = self._mover.position
        if command is not None:
            off = np.abs(command - self._feedback.positions)[_JOINTS]
            worst, limit = int(np.argmax(off)), self._settings.divergence
            if off[worst] > limit and self._machine.give_way(
                f"{JOINT_NAMES[worst]} is {off[worst]:.2f} rad from its command, limit {limit:.2f} rad", now
            ):
                self._note(kind.DIVERGENCE)

    def _pause_or_track(self, late: str | None, now: float) -> None:
        """An armed arm follows chunks exactly while there is one to follow and nothing speaks against it."""
        if not self._machine.armed:
            return
        stale = self._chunk_watchdog.complaint(self._executor.newest_stamp, now)
        silent = self._executor.silence(now) if self._executor.target(now) is None else None
        doubts = {
            kind.STALE_CHUNK: stale,
            kind.WATCHDOG: self._watchdogs.complaint(now),
            kind.LOOP_OVERRUN: late,
            kind.NO_ACTION_DUE: silent,
        }
        name, doubt = next(((name, doubt) for name, doubt in doubts.items() if doubt is not None), ("", None))
        tracking = self.state is ArmState.TRACKING
        if doubt is None:
            if not tracking:
                self._machine.track("following chunks", now)
        elif tracking:
            self._machine.pause(doubt, now)
            self._note(name)

    def _command(
        self,
        measured: ArmFeedback | None,
        target: NDArray[np.float64] | None,
        elapsed: float,
        late: bool,
        now: float,
    ) -> NDArray[np.float64] | None:
        """The next command, towards what the state wants; None where nothing is to be sent."""
        if self.state is ArmState.DISABLED:
            self._mover.forget()
            self._begun = False
            return None
        if measured is None:
            return self._brake_blindly(elapsed)
        if self.state is ArmState.ENABLING or self._mover.position is None:
            self._begin(measured)
        if self._begun:
            self._begun = False
            return self._mover.position
        desired = target if target is not None else self._wanted(measured)
        if desired is None or late:
            self._mover.brake(elapsed)
        else:
            self._follow(desired, elapsed, now)
        self._arrive(measured, now)
        return self._mover.position

    def _brake_blindly(self, elapsed: float) -> NDArray[np.float64] | None:
        """Bring the command to rest; then nothing is sent, the arm keeps its last target by itself."""
        if self._mover.at_rest:
            self._silent = True
            return None
        self._mover.brake(elapsed)
        return self._mover.position

    def _wanted(self, measured: ArmFeedback) -> NDArray[np.float64] | None:
        """Where the state leads without a chunk; None where it wants rest."""
        if self.state is ArmState.PARKING:
            return self._settings.park_positions
        end = self._mover.end
        if self.state is ArmState.STOPPING and end is not None:
            return np.append(measured.positions[_JOINTS], end[6:])  # the gripper keeps what it grips
        return None

    def _follow(self, desired: NDArray[np.float64], elapsed: float, now: float) -> None:
        if self.state is ArmState.STOPPING:
            kinds, violation = self._mover.give_way(desired, elapsed), None
        else:
            kinds, violation = self._mover.follow(desired, elapsed, careful=self.state is ArmState.PARKING)
        for name in kinds:
            if name == kind.NON_FINITE:
                self._stop(kind.NON_FINITE, "the target is not finite", now)
            else:
                self._note(name)
        if violation is not None:
            self._stop(violation.kind, violation.reason, now)

    def _arrive(self, measured: ArmFeedback, now: float) -> None:
        """End PARKING where the arm is parked, STOPPING where the command is back at the arm."""
        command = self._mover.position
        if command is None:
            return
        if self.state is ArmState.PARKING:
            there = self._mover.at_rest and np.allclose(command, self._settings.park_positions, rtol=0.0, atol=_THERE)
            if there and self._away_from_park() is None:
                self._machine.enter(ArmState.HOLDING, "parked", now)
        elif self.state is ArmState.STOPPING:
            off = np.abs(command - measured.positions)[_JOINTS]
            if off.max() <= self._settings.arrival_tolerance:
                self._machine.settle(now)

    def _away_from_park(self) -> str | None:
        """Which joint is farthest from its park position, in words; None when all are there."""
        if self._feedback is None:
            return "no arm feedback yet"
        off = np.abs(self._feedback.positions - self._settings.park_positions)[_JOINTS]
        worst = int(np.argmax(off))
        if off[worst] <= self._settings.arrival_tolerance:
            return None
        return f"{JOINT_NAMES[worst]} is {off[worst]:.2f} rad from its park position"

    def _stop(self, why: str, reason: str, now: float) -> None:
        if self._machine.stop(reason, now):
            self._note(why)

    def _note(self, name: str) -> None:
        self._counts[name] += 1
        self._since_tick.append(name)
