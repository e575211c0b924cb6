"""The loop period by period, on a clock of the test's own, over an arm that obeys at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import WorkFailed
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime_ros.control_loop import LATENCY, PERIOD, ControlLoop
from vla_runtime_ros.pace import Pace

START = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])


class FakeArm:
    """Is where it was last told to be; says so at every period."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.positions = START.copy()
        self.enabled = False
        self.events: list[str] = []
        self.threads: set[int] = set()
        self.broken = False
        self.refusing: str | None = None
        self.slow = 0.0
        self.works: Callable[[float], None] = lambda seconds: None

    @property
    def notes(self) -> tuple[str, ...]:
        return ()

    def connect(self) -> None:
        self._note("connect")
        if self.broken:
            raise WorkFailed("the arm on 'can0' said nothing")

    def feedback(self) -> ArmFeedback:
        return ArmFeedback(self.clock(), self.positions.copy(), np.zeros(7), self.enabled)

    def enable(self) -> None:
        self._note("enable")
        self.enabled = True

    def command(self, positions: NDArray[np.float64]) -> None:
        if self.refusing is not None:
            raise WorkFailed(self.refusing)
        self._note("command")
        self.positions = positions
        self.works(self.slow)

    def disable(self) -> None:
        self._note("disable")
        self.enabled = False

    def close(self) -> None:
        self._note("close")

    def _note(self, event: str) -> None:
        self.threads.add(threading.get_ident())
        self.events.append(event)


class Rig:
    def __init__(self, settings: ControlSettings | None = None) -> None:
        self.now = 1000.0
        self.arm = FakeArm(lambda: self.now)
        self.arm.works = self.passes
        controller = ArmController(settings or ControlSettings(), PIPER_LIMITS)
        self.loop = ControlLoop(self.arm, controller, Pace(100.0), lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds

    def periods(self, count: int) -> None:
        for _ in range(count):
            self.now += 0.01
            self.loop.period(self.now)

    def granted(self, request: str) -> None:
        future = self.loop.ask(lambda controller, now: getattr(controller, f"request_{request}")(now))
        self.periods(3)
        assert future.result(0) is None

    def track(self, target: NDArray[np.float64]) -> None:
        self.loop.ticking.set()
        self.granted("enable")
        self.granted("resume")
        self.offer(target)
        self.periods(5)

    def offer(self, target: NDArray[np.float64]) -> None:
        times = np.arange(10) * 0.1
        self.loop.offer(ActionChunk(self.now - 0.02, times, np.tile(target, (10, 1))))


def test_it_sends_nothing_until_it_is_told_to_tick() -> None:
    rig = Rig()
    rig.periods(10)
    assert rig.arm.events == []
    assert rig.loop.latest is None


def test_it_follows_a_chunk_and_counts_what_it_sends() -> None:
    rig = Rig()
    rig.track(START + 0.01)
    assert not rig.loop.resting
    rig.periods(40)
    np.testing.assert_allclose(rig.arm.positions, START + 0.01, atol=1e-6)
    assert rig.loop.resting
    assert rig.loop.commands == rig.arm.events.count("command") == len(rig.loop.sent)
    assert [state for state, _ in rig.loop.changes][-1] == "TRACKING"
    assert [change.end.name for change in rig.loop.history][-1] == "TRACKING"


def test_latency_is_recorded_once_per_observation_at_its_first_command() -> None:
    rig = Rig()
    rig.track(START)
    rig.periods(10)
    np.testing.assert_allclose(rig.loop.spans.seconds(LATENCY), [0.03], atol=1e-6)
    rig.offer(START)
    rig.periods(10)
    assert len(rig.loop.spans.seconds(LATENCY)) == 2


def test_the_period_is_measured_between_wake_ups_while_ticking() -> None:
    rig = Rig()
    rig.loop.ticking.set()
    rig.periods(5)
    rig.loop.ticking.clear()
    rig.now += 100.0
    rig.periods(1)
    rig.loop.ticking.set()
    rig.periods(3)
    np.testing.assert_allclose(rig.loop.spans.seconds(PERIOD), [0.01] * 6, atol=1e-9)


def test_leaving_active_sends_nothing_more_and_coming_back_waits_for_the_user() -> None:
    rig = Rig()
    rig.track(START + 0.05)
    rig.loop.ask(lambda controller, now: controller.request_hold(now, "deactivated"))
    rig.periods(50)
    assert rig.loop.resting
    rig.loop.ticking.clear()
    sent = rig.loop.commands
    rig.periods(100)
    assert rig.loop.commands == sent
    held = rig.arm.positions.copy()
    rig.loop.ticking.set()
    rig.offer(START + 0.3)
    rig.periods(20)
    np.testing.assert_array_equal(rig.arm.positions, held)
    assert rig.loop.latest is not None
    assert (rig.loop.latest.state.name, rig.loop.latest.reason) == ("HOLDING", "deactivated")
    assert rig.loop.latest.needs_resume


def test_a_refused_chunk_says_why() -> None:
    rig = Rig()
    rig.loop.ticking.set()
    rig.loop.offer(ActionChunk(rig.now - 10.0, np.array([0.0, 1.0]), np.tile(START, (2, 1))))
    rig.periods(1)
    assert "old" in str(rig.loop.refused_chunk)
    rig.offer(START)
    rig.periods(1)
    assert rig.loop.refused_chunk is None


def test_a_refused_request_says_why_and_power_is_never_cut_unasked() -> None:
    rig = Rig()
    rig.track(START)
    refused = rig.loop.ask(lambda controller, now: controller.request_disable(now))
    rig.periods(2)
    assert "park" in str(refused.result(0))
    assert "disable" not in rig.arm.events


def test_a_send_that_fails_stops_the_arm_and_says_why() -> None:
    rig = Rig()
    rig.track(START + 0.05)
    rig.arm.refusing = "CAN bus 'can0' did not take frame 0x155"
    rig.periods(2)
    assert rig.loop.latest is not None
    assert (rig.loop.latest.state.name, rig.loop.latest.reason) == ("HOLDING", rig.arm.refusing)
    assert rig.loop.latest.needs_resume
    assert rig.loop.interventions["send_failed"] == 1
    rig.arm.refusing = None
    rig.offer(START + 0.05)
    rig.periods(5)
    assert rig.loop.latest.state.name == "HOLDING"


def test_signs_of_life_reach_the_watchdogs() -> None:
    rig = Rig(ControlSettings(watchdogs={"policy": 0.05}))
    rig.track(START + 0.05)
    assert rig.loop.latest is not None
    assert rig.loop.latest.state.name == "HOLDING"  # nothing was heard of the policy yet
    for _ in range(5):
        rig.loop.heard("policy", rig.now)
        rig.offer(START + 0.05)
        rig.periods(2)
    assert rig.loop.latest.state.name == "TRACKING"
    rig.periods(8)
    assert (rig.loop.latest.state.name, rig.loop.interventions["watchdog"]) == ("HOLDING", 1)
    assert "policy is 0.0" in rig.loop.latest.reason


def test_work_that_takes_longer_than_it_may_makes_the_arm_hold() -> None:
    rig = Rig()
    rig.track(START + 0.05)
    rig.arm.slow = 0.3
    rig.periods(1)
    rig.arm.slow = 0.0
    rig.periods(1)
    assert rig.loop.latest is not None
    assert "late" in rig.loop.latest.reason
    assert rig.loop.interventions["loop_overrun"] == 1


def test_one_thread_connects_sends_and_closes() -> None:
    rig = Rig()
    rig.loop.ticking.set()
    stopping = threading.Event()
    thread = threading.Thread(target=rig.loop.run, args=(stopping,))
    thread.start()
    rig.loop.connected.result(5.0)
    assert rig.loop.ask(lambda controller, now: controller.request_enable(now)).result(5.0) is None
    stopping.set()
    thread.join(5.0)
    assert rig.arm.threads == {thread.ident}
    assert rig.arm.events[0] == "connect"
    assert rig.arm.events[-1] == "close"
    assert "disable" not in rig.arm.events


def test_an_arm_that_does_not_connect_is_reported_and_not_driven() -> None:
    rig = Rig()
    rig.arm.broken = True
    rig.loop.run(threading.Event())
    with pytest.raises(WorkFailed, match="said nothing"):
        rig.loop.connected.result(0)
    assert rig.arm.events == ["connect"]
