"""Observation after observation through the policy, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput, VlaError
from vla_runtime.policy.rtc import PreviousChunk
from vla_runtime_ros.continuation import Continuation
from vla_runtime_ros.observation_buffer import NotReadyError, ObservationBuffer, Snapshot
from vla_runtime_ros.rate import Rate

ImageT = TypeVar("ImageT")

NO_TASK = "waiting for a task"
_LOOK_UP = 0.1
"""How often a waiting loop looks whether it should end, in [s]."""


class Answer(NamedTuple):
    """What a policy makes of an observation.

    actions: in the policy's own space, absolute and in SI. Shape (H, n_action).
    targets: what they ask of the arm's joints, in [rad] and [m]. Shape (H, 7).
    """

    actions: NDArray[np.float64]
    targets: NDArray[np.float64]


class Thinker(Protocol[ImageT]):
    """What the loop asks of a policy."""

    def set_task(self, task: str) -> None:
        """Take this task from now on; raises `BadInput` for one that cannot be used."""
        ...

    def infer(self, snapshot: Snapshot[ImageT], previous: PreviousChunk | None) -> Answer:
        """The answer to an observation, going on from ``previous`` where there is one."""
        ...


class InferenceLoop(Generic[ImageT]):
    """Turns observations into chunks while it has a valid task; ``idle_because`` says why it does not.

    publish: called with (observation, joint targets (H, 7)) of every chunk, from the loop's thread.
    refused: called with the reason where a task is refused; until a valid one comes nothing is inferred.
    period: least time between two inferences in [s]; 0 for as fast as observations and policy allow.
    continuation: what makes a chunk continue the former one; None where each stands alone.
    chunks, rejected: how many were published, and how many came too late to continue the one before.
    """

    def __init__(
        self,
        thinker: Thinker[ImageT],
        observations: ObservationBuffer[ImageT],
        publish: Callable[[Snapshot[ImageT], NDArray[np.float64]], None],
        refused: Callable[[str], None],
        period: float,
        clock: Callable[[], float],
        continuation: Continuation | None = None,
    ) -> None:
        self._thinker, self._observations, self._publish = thinker, observations, publish
        self._refused, self._clock, self._continuation = refused, clock, continuation
        self._task: str | None = None
        self._task_changed = threading.Event()
        self.period = period
        self.idle_because: str | None = NO_TASK
        self.rate = Rate()
        self.chunks = 0
        self.rejected = 0

    def set_task(self, task: str) -> None:
        """Hand over a task; it is judged in the loop's thread, before the next inference. Any thread."""
        self._task = task
        self._task_changed.set()

    def run(self, stopping: threading.Event) -> None:
        """Infer until ``stopping`` is set."""
        has_task = False
        self.idle_because = NO_TASK
        while not stopping.is_set():
            if self._task_changed.is_set():
                has_task = self._take_task()
            if not has_task:
                self._task_changed.wait(_LOOK_UP)
                continue
            began = self._clock()
            if not self._observations.wait_fresh(_LOOK_UP):
                self._note_what_is_missing()
            elif self._answer():
                stopping.wait(max(0.0, began + self.period - self._clock()))
            else:
                stopping.wait(_LOOK_UP)

    def _answer(self) -> bool:
        """Answer the present observation; False where it is not complete or stale."""
        try:
            snapshot = self._observations.snapshot(self._clock())
        except NotReadyError as error:
            self.idle_because = str(error)
            return False
        self._infer(snapshot)
        return True

    def _note_what_is_missing(self) -> None:
        try:
            self._observations.check(self._clock())
        except NotReadyError as error:
            self.idle_because = str(error)

    def _take_task(self) -> bool:
        self._task_changed.clear()
        if self._continuation is not None:
            self._continuation.forget()
        try:
            self._thinker.set_task(self._task or "")
        except BadInput as error:
            self.idle_because = f"task refused: {error}"
            self._refused(str(error))
            return False
        self.idle_because = "no chunk yet for this task"
        return True

    def _infer(self, snapshot: Snapshot[ImageT]) -> None:
        following = self._continuation
        previous = None if following is None else following.previous(snapshot.stamp, snapshot.state)
        try:
            answer = self._thinker.infer(snapshot, previous)
        except VlaError as error:  # this observation has no answer; the next may have one
            self.idle_because = f"chunk dropped: {error}"
            return
        if self._task_changed.is_set():
            return  # the answer to a task that nobody asks any more
        late = None if following is None else following.answered(snapshot.stamp, *answer, previous, self._clock())
        if late is not None:
            self.rejected += 1
            self.idle_because = f"chunk rejected: {late}"
            return
        self.idle_because = None
        self.chunks += 1
        self.rate.tick(self._clock())
        self._publish(snapshot, answer.targets)
