"""An episode through the safety layer and the arm's own CAN frames, in real time, in one process."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from vla_evaluation.case import Case
from vla_evaluation.outcome import Rollout, Verdict, outcome_of
from vla_evaluation.pilot import RATE, Pilot
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import WorkFailed
from vla_runtime.safety.controller import ArmController
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.settings import ControlSettings
from vla_runtime.safety.states import ArmState
from vla_runtime.sim.episode import Episode
from vla_runtime.sim.judged_scene import JudgedScene
from vla_runtime_ros.control_loop import ControlLoop
from vla_runtime_ros.pace import Pace
from vla_runtime_ros.worker import Worker

CONTROL_RATE = 100.0  # [Hz]
_ANSWER_WITHIN = 5.0  # [s]


@dataclass(frozen=True)
class _Rig:
    """The running arm: what sends, what it drives, and what went wrong in their threads."""

    arm: Piper
    loop: ControlLoop
    failures: list[BaseException]

    def wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _ANSWER_WITHIN
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise WorkFailed(f"waited {_ANSWER_WITHIN:g} s in vain for {what}")
            time.sleep(0.01)

    def check(self) -> None:
        if self.failures:
            raise WorkFailed(f"the simulated arm's loop ended: {self.failures[0]}") from self.failures[0]

    def ask(self, request: Callable[[ArmController, float], str | None], what: str) -> None:
        refusal = self.loop.ask(request).result(_ANSWER_WITHIN)
        if refusal is not None:
            raise WorkFailed(f"the arm refused to {what}: {refusal}")


def roll_out_over_can(case: Case, episode: Episode, pilot: Pilot) -> Rollout:
    """Run the staged ``episode`` to the end of its time; what the policy knows of the arm came over the bus.

    Raises `WorkFailed` where the arm cannot be brought to move at all.
    """
    pilot.begin(episode.instruction, case.seed)
    states, frames, ended = [], [], None
    times = np.arange(pilot.horizon) / RATE
    with _rig(episode, pilot) as rig:
        began = episode.time
        beats = Pace(RATE)
        while episode.time - began < episode.limit - 1e-9:
            beats.wait()
            try:
                rig.check()
                states.append(_measured(rig.arm))
                if (len(states) - 1) % pilot.executed == 0:
                    stamp = time.time()
                    images = episode.observe()
                    frames.append(images)
                    rig.loop.offer(ActionChunk(stamp, times, pilot.chunk(images, states[-1])))
            except WorkFailed as error:
                ended = str(error)
                break
        interventions = {kind: count for kind, count in rig.loop.interventions.items() if count}
        held = rig.loop.latest
        if ended is None and held is not None and held.needs_resume:
            ended = held.reason
        succeeded_at = None if episode.succeeded_at is None else max(0.0, episode.succeeded_at - began)
        verdict = Verdict(succeeded_at, episode.holding, episode.time - began)
    outcome = outcome_of(
        case,
        episode,
        verdict,
        np.array(states),
        chunks=len(frames),
        chunk_latency=pilot.latency,
        interventions=interventions,
        ended_because=ended,
    )
    return Rollout(outcome, frames)


@contextmanager
def _rig(episode: Episode, pilot: Pilot) -> Iterator[_Rig]:
    """The arm on its bus, enabled and waiting for chunks."""
    spec = f"virtual:{uuid.uuid4().hex}"
    settings = ControlSettings(period=1 / CONTROL_RATE, chunk_timeout=(pilot.horizon - 1) / RATE)
    with ExitStack() as resources:
        bus = open_bus(spec)
        resources.callback(bus.shutdown)
        simulated = SimulatedPiper(bus, JudgedScene(episode))
        failures: list[BaseException] = []
        worker = Worker("simulated arm", simulated.run, failures.append)
        resources.callback(worker.stop, _ANSWER_WITHIN)
        arm = Piper(spec, connect_timeout=_ANSWER_WITHIN)
        loop = ControlLoop(arm, ArmController(settings, PIPER_LIMITS), Pace(CONTROL_RATE), time.time)
        control = Worker("control", loop.run, failures.append)
        resources.callback(control.stop, _ANSWER_WITHIN)
        rig = _Rig(arm, loop, failures)
        rig.wait(loop.connected.done, "the arm's first words")
        loop.connected.result()
        loop.ticking.set()
        rig.ask(ArmController.request_enable, "enable")
        rig.wait(lambda: loop.latest is not None and loop.latest.state is ArmState.HOLDING, "the arm to hold")
        rig.ask(ArmController.request_resume, "resume")
        yield rig


def _measured(arm: Piper) -> np.ndarray:
    feedback = arm.feedback()
    if feedback is None:
        raise WorkFailed("the arm gave no feedback")
    return feedback.positions
