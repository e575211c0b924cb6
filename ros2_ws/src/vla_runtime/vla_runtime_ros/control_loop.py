"""The one thread that sends to the arm."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import Arm
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import VlaError
from vla_runtime.profiling.spans import Spans
from vla_runtime.safety.controller import ArmController, Tick
from vla_runtime.safety.states import Transition
from vla_runtime_ros.pace import Pace

PERIOD, LATENCY, TICK = "control_period", "observation_to_command", "tick"
"""The spans it records: time between two wake-ups; from an observation to the first command sent in answer to it;
the work of one period."""

Request = Callable[[ArmController, float], str | None]


class ControlLoop:
    """Ticks the controller at a fixed rate and sends what it says; everything else hands its wishes in.

    While not ``ticking`` it sends nothing, and the arm keeps its last target by itself.

    latest: what the newest tick came to, None before the first.
    changes: (state and reason) whenever they changed, for whoever drains them.
    sent: (time in [s], command (7,)) of the newest commands, for whoever drains them.
    commands: how many commands were sent.
    resting: the newest tick sent nothing new.
    refused_chunk: why the newest refused chunk was refused, None after an accepted one.
    """

    def __init__(self, arm: Arm, controller: ArmController, pace: Pace, clock: Callable[[], float]) -> None:
        self._arm, self._controller, self._pace, self._clock = arm, controller, pace, clock
        self._requests: queue.SimpleQueue[tuple[Request, Future[str | None]]] = queue.SimpleQueue()
        self._chunks: queue.SimpleQueue[ActionChunk] = queue.SimpleQueue()
        self._signs: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        self._woke: float | None = None
        self._answered = -np.inf
        self.ticking = threading.Event()
        self.connected: Future[None] = Future()
        self.latest: Tick | None = None
        self.changes: deque[tuple[str, str]] = deque(maxlen=100)
        self.sent: deque[tuple[float, NDArray[np.float64]]] = deque(maxlen=1000)
        self.commands = 0
        self.resting = True
        self.refused_chunk: str | None = None
        self.spans = Spans()

    @property
    def interventions(self) -> Mapping[str, int]:
        """How often the safety layer intervened, by kind."""
        return self._controller.interventions

    @property
    def history(self) -> Sequence[Transition]:
        """The newest changes of state and reason, the oldest first."""
        return self._controller.history

    def heard(self, name: str, stamp: float) -> None:
        """Hand over a sign of life, stamped ``stamp`` [s], for the next period. Any thread."""
        self._signs.put((name, stamp))

    def offer(self, chunk: ActionChunk) -> None:
        """Hand over a chunk for the next period. Any thread."""
        self._chunks.put(chunk)

    def ask(self, request: Request) -> Future[str | None]:
        """Put a request to the controller in the next period; the future says None for granted, else why not."""
        future: Future[str | None] = Future()
        self._requests.put((request, future))
        return future

    def run(self, stopping: threading.Event) -> None:
        """Connect the arm, then control it until ``stopping`` is set; ``connected`` says how connecting went."""
        try:
            self._arm.connect()
        except VlaError as error:
            self.connected.set_exception(error)
            return
        self.connected.set_result(None)
        try:
            while not stopping.is_set():
                self.period(self._pace.wait())
        finally:
            self._arm.close()

    def period(self, woke: float) -> None:
        """One control period, begun at ``woke`` in [s] on the pace's clock."""
        now = self._clock()
        while not self._signs.empty():
            self._controller.heard(*self._signs.get())
        while not self._chunks.empty():
            self.refused_chunk = self._controller.offer(self._chunks.get(), now)
        while not self._requests.empty():
            request, future = self._requests.get()
            future.set_result(request(self._controller, now))
        if not self.ticking.is_set():
            self._woke = None
            return
        passed = None if self._woke is None else woke - self._woke
        if passed is not None:
            self.spans.record(PERIOD, passed)
        self._woke = woke
        with self.spans.span(TICK):
            self._obey(self._controller.tick(now, self._arm.feedback(), passed), now)
        beyond = self._clock() - now - self._pace.period
        if beyond > 0:
            self._controller.overran(beyond)

    def _obey(self, tick: Tick, now: float) -> None:
        try:
            self._send(tick, now)
        except VlaError as error:
            self._controller.failed(str(error), now)
        if self.latest is None or (tick.state, tick.reason) != (self.latest.state, self.latest.reason):
            self.changes.append((tick.state.name, tick.reason))
        before = None if self.latest is None else self.latest.command
        self.resting = tick.command is None or (before is not None and np.array_equal(tick.command, before))
        self.latest = tick

    def _send(self, tick: Tick, now: float) -> None:
        if tick.enable:
            self._arm.enable()
        if tick.disable:
            self._arm.disable()
        if tick.command is None:
            return
        self._arm.command(tick.command)
        self.commands += 1
        self.sent.append((now, tick.command))
        if tick.observed is not None and tick.observed > self._answered:
            self._answered = tick.observed
            self.spans.record(LATENCY, self._clock() - tick.observed)
