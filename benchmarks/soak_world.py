"""An arm, a policy, a user and a machine around one controller, each of which does what it should not, at random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.arms.piper_limits import MAX_JOINT_SPEED
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.safety.controller import ArmController, ControlSettings, Tick
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState

Array = NDArray[np.float64]

_SETTINGS = ControlSettings(watchdogs={"policy": 0.3, "side": 0.3})
_JITTER = (0.5, 1.5)  # of a period, from tick to tick
_CHUNK_PERIOD = 0.1  # [s]
_CALM = 1.5  # [s], from one fault to the next on average
_LONGEST = 1.2  # [s], of a fault
_PATIENCE = 20  # ticks the user waits on average before he puts right what stopped the arm
_HOME = np.array([0.1, 1.0, -1.0, 0.2, 0.3, -0.1, 0.03])


class SoakWorld:
    """Lives tick by tick.

    true_time: in [s]; the controller only sees a clock that may be set. began: where it started.
    begins_anew: the newest command need not go on from the one before, by what `ArmController` promises.
    faults: how many of each kind there were.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.controller = ArmController(_SETTINGS, PIPER_LIMITS)
        self.began = self.true_time = 1000.0
        self._clock_error = 0.0
        self._arm = KinematicPlant(_HOME, MAX_JOINT_SPEED)
        self._powered = False
        self._asked = _HOME  # where the arm keeps going, powered
        self._goal = _HOME
        self._next_chunk = self._next_fault = self.true_time
        self._fault, self._ends = "", self.true_time
        self._last: Array | None = None
        self._interrupted = True
        self.begins_anew = True
        self.faults: Counter[str] = Counter()

    def tick(self) -> Tick:
        """One period, which takes more or less than its time; what it comes to is done."""
        self._go_wrong()
        dt = _SETTINGS.period * self._rng.uniform(*_JITTER)
        if self._happens("late period"):
            dt, self._fault = self._rng.uniform(0.01, 1.2), ""
        self.true_time += dt
        self._move(dt)
        now = self.true_time + self._clock_error
        self._policy(now)
        self._user(now)
        feedback = self._feedback(now)
        tick = self.controller.tick(now, feedback, dt)
        self._note_continuity(tick, feedback)
        self._obey(tick, now)
        return tick

    def _happens(self, fault: str) -> bool:
        return self._fault == fault

    def _go_wrong(self) -> None:
        """The next fault, when its time has come."""
        if self._fault and self.true_time > self._ends:
            self._fault = ""
        if self.true_time < self._next_fault:
            return
        self._fault = str(self._rng.choice(_FAULTS))
        self.faults[self._fault] += 1
        self._ends = self.true_time + self._rng.uniform(0.0, _LONGEST)
        self._next_fault = self.true_time + self._rng.exponential(_CALM)
        if self._happens("clock set back"):
            self._jump(-self._rng.uniform(0.0, 100.0))
        elif self._happens("clock set ahead"):
            self._jump(self._rng.uniform(0.0, 2.0 if self._rng.random() < 0.5 else 100.0))
        elif self._happens("power lost"):
            self._powered = False
        elif self._happens("arm pushed"):
            pushed = self._arm.positions + self._rng.uniform(-0.6, 0.6, 7) * np.array([1.0] * 6 + [0.05])
            self._arm = KinematicPlant(np.clip(pushed, PIPER_LIMITS.lower, PIPER_LIMITS.upper), MAX_JOINT_SPEED)

    def _jump(self, seconds: float) -> None:
        self._clock_error += seconds
        self._fault = ""

    def _policy(self, now: float) -> None:
        if not self._happens("heartbeat lost"):
            self.controller.heard("policy", now - 0.02)
        if not self._happens("camera lost"):
            self.controller.heard("side", now - (5.0 if self._happens("camera late") else 0.05))
        if self.true_time < self._next_chunk or self._happens("policy silent"):
            return
        self._next_chunk = self.true_time + _CHUNK_PERIOD * self._rng.uniform(0.7, 1.6)
        if self._rng.random() < 0.08:
            self._goal = self._rng.uniform(PIPER_LIMITS.lower, PIPER_LIMITS.upper)
            self._goal = _HOME + 0.5 * (self._goal - _HOME)
        if (chunk := self._chunk(now)) is not None:
            self.controller.offer(chunk, now)

    def _chunk(self, now: float) -> ActionChunk:
        """From where the arm is towards where the policy wants it, 16 actions at 10 Hz; a broken policy says worse."""
        times = np.arange(16) / 10.0
        reach = 0.7 * PIPER_LIMITS.velocity * times[:, None]
        here = self._arm.positions
        positions = here + np.clip(self._goal - here, -reach, reach)
        chunk = ActionChunk(now - self._rng.uniform(0.03, 0.2), times, positions)
        match self._fault:
            case "chunk not finite":
                positions[self._rng.integers(16), self._rng.integers(7)] = self._rng.choice([np.nan, np.inf, -np.inf])
            case "chunk random":
                chunk = replace(chunk, positions=self._rng.uniform(-7, 7, (16, 7)))
            case "chunk trembles":
                chunk = replace(chunk, positions=positions + self._rng.normal(0, 0.05, (16, 7)))
            case "chunk late":
                chunk = replace(chunk, stamp=now - self._rng.uniform(0.2, 3.0))
            case "chunk from the future":
                chunk = replace(chunk, stamp=now + self._rng.uniform(0.0, 3.0))
            case "chunk hasty":
                chunk = replace(chunk, times=times * self._rng.uniform(1e-3, 0.3))
            case "chunk short":
                chunk = replace(chunk, times=times[:1], positions=positions[:1])
        return chunk

    def _feedback(self, now: float) -> ArmFeedback | None:
        positions, velocities = self._arm.positions, self._arm.velocities
        feedback = ArmFeedback(now - self._rng.uniform(0.0, 0.01), positions, velocities, self._powered)
        match self._fault:
            case "feedback lost":
                return None
            case "feedback late":
                return replace(feedback, stamp=now - 0.3)
            case "feedback from the future":
                return replace(feedback, stamp=now + 1.0)
            case "feedback not finite":
                return replace(feedback, positions=positions * np.nan)
            case "feedback impossible":
                return replace(feedback, positions=positions + 10.0)
            case "feedback false":
                return replace(feedback, positions=self._rng.uniform(PIPER_LIMITS.lower, PIPER_LIMITS.upper))
            case "motor fault":
                return replace(feedback, faults=("joint 3: collision protection",))
        return feedback

    def _user(self, now: float) -> None:
        """He puts right what stopped the arm, sometimes before its cause is gone, and has ideas of his own."""
        if self._rng.random() < 1 / _PATIENCE:
            if self.controller.state is ArmState.DISABLED:
                self.controller.request_enable(now)
            else:
                self.controller.request_resume(now)
        if self._happens("user interferes"):
            idea: Callable[[], object] = self._rng.choice(
                np.array(
                    [
                        lambda: self.controller.request_park(now),
                        lambda: self.controller.request_hold(now, "asked to"),
                        lambda: self.controller.request_disable(now, force=bool(self._rng.random() < 0.1)),
                        lambda: self.controller.request_enable(now),
                        lambda: self.controller.overran(self._rng.uniform(0.0, 0.3)),
                    ]
                )
            )
            idea()

    def _note_continuity(self, tick: Tick, feedback: ArmFeedback | None) -> None:
        """When commands may begin anew: without power, and where command and arm parted while nothing was sent."""
        if tick.command is None:
            self._interrupted = True
            if tick.state is ArmState.DISABLED:
                self._last = None
            return
        parted = (
            self._last is None
            or feedback is None
            or float(np.abs(self._last - feedback.positions)[:6].max()) > _SETTINGS.divergence
        )
        self.begins_anew = tick.state is ArmState.ENABLING or (self._interrupted and parted)
        self._interrupted = tick.state is ArmState.ENABLING
        self._last = tick.command

    def _obey(self, tick: Tick, now: float) -> None:
        if self._happens("send fails") and tick.command is not None:
            self.controller.failed("the bus took no frame", now)
            return
        if tick.enable and not self._happens("power denied"):
            self._powered, self._asked = True, self._arm.positions
        if tick.disable:
            self._powered = False
        if tick.command is not None and not self._happens("arm deaf"):
            self._asked = tick.command

    def _move(self, dt: float) -> None:
        stuck = self._happens("arm stuck") or not self._powered
        self._arm.apply(self._arm.positions if stuck else self._asked, dt)


_FAULTS = (
    "policy silent",
    "chunk not finite",
    "chunk random",
    "chunk trembles",
    "chunk late",
    "chunk from the future",
    "chunk hasty",
    "chunk short",
    "heartbeat lost",
    "camera lost",
    "camera late",
    "feedback lost",
    "feedback late",
    "feedback from the future",
    "feedback not finite",
    "feedback impossible",
    "feedback false",
    "motor fault",
    "power lost",
    "power denied",
    "arm pushed",
    "arm stuck",
    "arm deaf",
    "send fails",
    "late period",
    "clock set back",
    "clock set ahead",
    "user interferes",
)
