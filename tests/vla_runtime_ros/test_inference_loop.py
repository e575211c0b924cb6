"""The loop in a thread, driven by observations; nothing here asserts how long anything takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.rtc import PreviousChunk
from vla_runtime_ros.continuation import Continuation
from vla_runtime_ros.inference_loop import NO_TASK, Answer, InferenceLoop
from vla_runtime_ros.observation_buffer import Matching, ObservationBuffer, Snapshot


class FakeThinker:
    """Answers with the state of the observation; refuses empty tasks, and fails while told to."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.failing = False
        self.seen: list[float] = []
        self.continued: list[PreviousChunk | None] = []

    def set_task(self, task: str) -> None:
        if not task:
            raise BadInput("the task is empty")
        self.tasks.append(task)

    def infer(self, snapshot: Snapshot[str], previous: PreviousChunk | None) -> Answer:
        self.seen.append(snapshot.stamp)
        self.continued.append(previous)
        if self.failing:
            raise WorkFailed("not finite")
        actions = np.tile(snapshot.state, (4, 1))
        return Answer(actions, actions)


class Rig:
    def __init__(self, continuation: Continuation | None = None) -> None:
        self.thinker = FakeThinker()
        self.observations: ObservationBuffer[str] = ObservationBuffer(("side",), Matching(0.5))
        self.published: list[tuple[float, NDArray[np.float64]]] = []
        self.refused: list[str] = []
        self.now = 100.0
        self.loop: InferenceLoop[str] = InferenceLoop(
            self.thinker,
            self.observations,
            lambda snapshot, targets: self.published.append((snapshot.stamp, targets)),
            self.refused.append,
            0.0,
            lambda: self.now,
            continuation,
        )
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop.run, args=(self.stopping,))

    def observe(self, stamp: float) -> None:
        self.now = stamp
        self.observations.put_state(stamp, np.full(7, stamp), stamp)
        self.observations.put_image("side", stamp, "image", stamp)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.thread.start()
    yield rig
    rig.stopping.set()
    rig.thread.join(10.0)
    assert not rig.thread.is_alive()


def test_without_a_task_nothing_is_inferred(rig: Rig) -> None:
    rig.observe(100.0)
    time.sleep(0.3)
    assert rig.loop.idle_because == NO_TASK
    assert rig.thinker.seen == []


def test_every_observation_is_answered_once_and_stamped_with_its_own_time(rig: Rig) -> None:
    rig.loop.set_task("reach")
    for stamp in (100.0, 100.1, 100.2):
        rig.observe(stamp)
        eventually(lambda stamp=stamp: bool(rig.published) and rig.published[-1][0] == stamp)  # type: ignore[misc]
    assert [stamp for stamp, _ in rig.published] == [100.0, 100.1, 100.2]
    np.testing.assert_array_equal(rig.published[1][1], np.full((4, 7), 100.1))
    assert rig.loop.idle_because is None
    assert rig.loop.chunks == 3


def test_a_refused_task_stops_inference_until_a_valid_one(rig: Rig) -> None:
    rig.loop.set_task("reach")
    rig.observe(100.0)
    eventually(lambda: len(rig.published) == 1)
    rig.loop.set_task("")
    eventually(lambda: rig.refused == ["the task is empty"])
    rig.observe(100.1)
    time.sleep(0.3)
    assert len(rig.published) == 1
    assert rig.loop.idle_because == "task refused: the task is empty"
    rig.loop.set_task("grasp")
    eventually(lambda: len(rig.published) == 2)
    assert rig.thinker.tasks == ["reach", "grasp"]


def test_stale_inputs_make_no_chunk_and_are_named(rig: Rig) -> None:
    rig.loop.set_task("reach")
    rig.observe(100.0)
    eventually(lambda: len(rig.published) == 1)
    rig.now = 101.0
    eventually(lambda: rig.loop.idle_because is not None)
    assert "camera side is 1.00 s old" in str(rig.loop.idle_because)
    rig.observe(101.0)
    eventually(lambda: len(rig.published) == 2)
    assert rig.loop.idle_because is None


def test_a_failed_inference_costs_one_chunk_not_the_loop(rig: Rig) -> None:
    rig.thinker.failing = True
    rig.loop.set_task("reach")
    rig.observe(100.0)
    eventually(lambda: rig.loop.idle_because == "chunk dropped: not finite")
    rig.thinker.failing = False
    rig.observe(100.1)
    eventually(lambda: len(rig.published) == 1)
    assert rig.loop.idle_because is None


def test_a_chunk_continues_the_one_before_and_one_that_came_too_late_is_not_published() -> None:
    rig = Rig(Continuation(10.0, 95.0, 0.25, JOINT_NAMES, JOINT_NAMES))
    rig.thread.start()
    rig.loop.set_task("reach")
    rig.observe(100.0)
    eventually(lambda: len(rig.published) == 1)
    rig.observe(100.1)
    eventually(lambda: len(rig.published) == 2)
    answer = rig.thinker.infer

    def slow(snapshot: Snapshot[str], previous: PreviousChunk | None) -> Answer:
        rig.now += 0.15
        return answer(snapshot, previous)

    rig.thinker.infer = slow  # type: ignore[method-assign]
    rig.observe(100.2)
    eventually(lambda: rig.loop.rejected == 1)
    assert rig.loop.idle_because == (
        "chunk rejected: inference took 150 ms, 2 actions of 100 ms, and the chunk continues only 1"
    )
    rig.observe(100.3)
    eventually(lambda: len(rig.published) == 3)
    rig.stopping.set()
    rig.thread.join(10.0)
    previous = rig.thinker.continued
    assert previous[0] is None
    assert [None if one is None else one.frozen for one in previous[1:]] == [1, 1, 3]
    np.testing.assert_allclose(previous[3].actions[0], 100.1)  # type: ignore[union-attr]


def test_the_answer_to_a_replaced_task_is_not_published() -> None:
    rig = Rig()
    began, go_on = threading.Event(), threading.Event()
    answer = rig.thinker.infer

    def slow(snapshot: Snapshot[str], previous: PreviousChunk | None) -> Answer:
        began.set()
        go_on.wait(10.0)
        return answer(snapshot, previous)

    rig.thinker.infer = slow  # type: ignore[method-assign]
    rig.thread.start()
    rig.loop.set_task("reach")
    rig.observe(100.0)
    assert began.wait(10.0)
    rig.loop.set_task("")
    go_on.set()
    eventually(lambda: bool(rig.refused))
    rig.stopping.set()
    rig.thread.join(10.0)
    assert rig.thinker.seen == [100.0]
    assert rig.published == []
