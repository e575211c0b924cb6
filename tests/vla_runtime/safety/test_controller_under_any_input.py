"""No sequence of requests, chunks, feedback and tick times makes the controller move an arm wrongly."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from numpy.testing import assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess, outside
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState

SETTINGS = ControlSettings(enable_timeout=0.2, enable_interval=0.05, watchdogs={"policy": 0.4})
ROUNDING = 1e-9

any_number = st.one_of(st.floats(-4, 4), st.floats(allow_nan=True, allow_infinity=True))
positions = st.lists(any_number, min_size=7, max_size=7).map(np.array)
inside = st.lists(st.floats(0, 1), min_size=7, max_size=7).map(
    lambda parts: PIPER_LIMITS.lower + np.array(parts) * (PIPER_LIMITS.upper - PIPER_LIMITS.lower)
)
odd_steps = st.one_of(
    st.just(0.0), st.floats(1e-3, 0.6), st.floats(-1, -1e-3), st.sampled_from([np.nan, np.inf, -np.inf, 1e9, -1e9])
)


class AnyInput(RuleBasedStateMachine):
    """An arm that follows its commands, and a world that may do anything to it and to the controller's inputs."""

    @initialize(start=inside, ready=st.booleans())
    def set_up(self, start, ready):
        self.controller = ArmController(SETTINGS, PIPER_LIMITS)
        self.now = 1000.0
        self.arm = start
        self.powered = False
        self.time = 0.0  # as it passes for the arm, whose clock does not jump
        self.times, self.positions = [], []  # of the commands, since they began at the measured position
        self.silent = False
        self.newest_accepted = None  # observation stamp of the newest accepted chunk
        self.may_enable = False
        self.may_disable = False
        self.may_track = False  # the user's word, until the next reason to take it back
        self.tick(self.now, None)
        if ready:
            self.enable_and_resume()

    def tick(self, now, feedback):
        elapsed = now - self.now
        sound = (
            feedback is not None
            and np.all(np.abs(feedback.positions) <= 2 * np.pi)
            and -SETTINGS.max_future <= now - feedback.stamp <= SETTINGS.feedback_timeout
        )
        before = self.controller.state
        tick = self.controller.tick(now, feedback)
        jumped = not 0 <= elapsed <= SETTINGS.max_gap

        assert not tick.enable or self.may_enable
        assert not tick.disable or self.may_disable
        if tick.enable:
            self.may_enable = False
        self.may_disable = False

        if jumped or not sound or feedback.faults or not feedback.enabled:
            self.may_track = False
            assert tick.state is not ArmState.TRACKING
        if jumped:
            self.newest_accepted = None
        if tick.state is ArmState.TRACKING:
            assert self.may_track
            assert now - self.newest_accepted <= SETTINGS.chunk_timeout
            assert tick.target is not None
        else:
            assert tick.target is None
        if tick.state is ArmState.DISABLED:
            assert tick.command is None
        if tick.needs_resume:
            self.may_track = False
        self.silent |= elapsed > SETTINGS.max_gap
        self.judge(tick, before, feedback if sound else None, SETTINGS.period if jumped else elapsed)

        if tick.enable:
            self.powered = True
        if tick.disable:
            self.powered = False
        if tick.command is not None and self.powered:
            self.arm = tick.command.copy()
        if np.isfinite(now):
            self.now = now
        return tick

    def judge(self, tick, before, feedback, elapsed):
        """What is sent keeps every limit since the sequence began: where the arm was measured, at rest or by hand."""
        self.time += elapsed
        if tick.command is None:
            self.silent = True
            return
        assert np.isfinite(tick.command).all()
        unpowered = ArmState.ENABLING in (before, tick.state)
        if not self.positions or unpowered or (self.silent and self.parted(feedback)):
            assert_array_equal(tick.command, feedback.positions)
            self.times, self.positions = [], []
            self.farthest = outside(tick.command, PIPER_LIMITS)
        elif elapsed == 0:
            assert_array_equal(tick.command, self.positions[-1])
        self.silent &= feedback is None
        if not self.times or elapsed > 0:
            self.times.append(self.time)
            self.positions.append(tick.command)
        assert np.all(outside(tick.command, PIPER_LIMITS) <= self.farthest + ROUNDING)
        newest = slice(-5, None)
        times, positions = np.array(self.times[newest]), np.array(self.positions[newest])
        assert np.all(excess(times - times[0], positions, PIPER_LIMITS) <= 1e-3)
        at_rest = len(positions) == 5 and np.ptp(positions[:4], axis=0).max() == 0.0
        if at_rest and before is tick.state is ArmState.HOLDING and not outside(positions[0], PIPER_LIMITS).any():
            assert_array_equal(positions[4], positions[0])

    def parted(self, feedback):
        if feedback is None:
            return False
        off = np.abs(self.positions[-1] - feedback.positions)[:6]
        return off.max() > SETTINGS.divergence

    def honest_feedback(self, now, faults=()):
        return ArmFeedback(now, self.arm.copy(), np.zeros(7), self.powered, faults)

    @rule(count=st.integers(1, 40))
    def time_goes_on(self, count):
        for _ in range(count):
            now = self.now + SETTINGS.period
            self.tick(now, self.honest_feedback(now))

    @rule(step=odd_steps)
    def the_clock_is_odd(self, step):
        now = self.now + step
        self.tick(now, self.honest_feedback(now))

    @rule(age=st.one_of(st.none(), st.floats(-1, 1), st.just(np.nan)))
    def feedback_is_missing_or_old(self, age):
        now = self.now + SETTINGS.period
        feedback = None
        if age is not None:
            feedback = ArmFeedback(now - age, self.arm.copy(), np.zeros(7), self.powered)
        self.tick(now, feedback)

    @rule(wrong=positions)
    def feedback_is_wrong(self, wrong):
        now = self.now + SETTINGS.period
        self.tick(now, ArmFeedback(now, wrong, np.zeros(7), self.powered))

    @rule()
    def the_arm_reports_a_fault(self):
        now = self.now + SETTINGS.period
        self.tick(now, self.honest_feedback(now, ("joint1 collision",)))

    @rule(push=st.lists(st.floats(-0.6, 0.6), min_size=7, max_size=7))
    def the_arm_is_pushed(self, push):
        self.arm = self.arm + np.array(push)

    @rule(powered=st.booleans())
    def the_power_changes_unasked(self, powered):
        self.powered = powered

    def take(self, chunk):
        if self.controller.offer(chunk, self.now) is None:
            assert np.isfinite(chunk.positions).all()
            assert -SETTINGS.max_future <= self.now - chunk.stamp <= SETTINGS.chunk_timeout
            assert self.newest_accepted is None or chunk.stamp > self.newest_accepted
            self.newest_accepted = chunk.stamp

    @rule(goal=inside, horizon=st.floats(0.05, 1.0))
    def a_good_chunk_comes(self, goal, horizon):
        self.take(ActionChunk(self.now, np.array([0.0, horizon]), np.array([self.arm, goal])))

    @rule(
        age=st.one_of(st.floats(-1, 1), st.just(np.nan)),
        start=st.floats(-1, 1),
        wanted=st.lists(positions, min_size=1, max_size=4),
    )
    def any_chunk_comes(self, age, start, wanted):
        self.take(ActionChunk(self.now - age, start + 0.1 * np.arange(len(wanted)), np.array(wanted)))

    @rule(stamp=st.one_of(st.none(), st.floats(-1, 1), st.floats(allow_nan=True)))
    def the_policy_is_heard(self, stamp):
        assert self.controller.heard("policy", self.now if stamp is None else self.now + stamp) is None

    @rule(seconds=st.floats(0, 1))
    def the_loop_overran(self, seconds):
        self.controller.overran(seconds)

    @rule()
    def a_command_cannot_be_sent(self):
        self.controller.failed("the bus is off", self.now)
        self.may_track = False
        self.may_enable = self.may_enable and self.controller.state is not ArmState.DISABLED
        assert self.controller.state not in (ArmState.TRACKING, ArmState.PARKING, ArmState.ENABLING)

    @rule()
    def enable(self):
        if self.controller.request_enable(self.now) is None and self.controller.state is ArmState.ENABLING:
            self.may_enable = True

    @rule()
    def enable_and_resume(self):
        self.time_goes_on(6)
        self.enable()
        self.time_goes_on(3)
        self.resume()

    @precondition(lambda self: self.may_track)
    @rule(goal=inside, again=st.integers(1, 6))
    def it_is_led_somewhere(self, goal, again):
        for _ in range(again):
            self.controller.heard("policy", self.now)
            self.take(ActionChunk(self.now, np.array([0.0, 0.3, 0.6]), np.array([self.arm, goal, goal])))
            self.time_goes_on(12)

    @rule()
    def resume(self):
        if self.controller.request_resume(self.now) is None:
            self.may_track = True

    @rule()
    def hold(self):
        self.controller.request_hold(self.now, "asked to")
        self.may_track = False
        assert self.controller.state not in (ArmState.TRACKING, ArmState.PARKING)

    @rule()
    def park(self):
        if self.controller.request_park(self.now) is None:
            self.may_track = False

    @rule(force=st.booleans())
    def disable(self, force):
        moving = self.controller.state in (ArmState.TRACKING, ArmState.PARKING, ArmState.STOPPING)
        if self.controller.request_disable(self.now, force=force) is None:
            assert force or not moving
            self.may_disable, self.may_enable, self.may_track = True, False, False
        else:
            assert not force

    @precondition(lambda self: self.controller.state is ArmState.TRACKING)
    @rule()
    def the_policy_dies(self):
        deadline = self.newest_accepted + SETTINGS.chunk_timeout + SETTINGS.period
        while self.now + SETTINGS.period <= deadline:
            now = self.now + SETTINGS.period
            self.tick(now, self.honest_feedback(now))
        now = self.now + SETTINGS.period
        last = self.tick(now, self.honest_feedback(now))
        assert last.state is not ArmState.TRACKING


AnyInput.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyInput = AnyInput.TestCase
