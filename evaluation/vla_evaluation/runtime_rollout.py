"""An episode directly on the runtime: no clock, no bus, the same result for the same seed."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_evaluation.case import Case
from vla_evaluation.outcome import Rollout, Verdict, outcome_of
from vla_evaluation.pilot import Pilot
from vla_runtime.errors import WorkFailed
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode


def roll_out(case: Case, episode: Episode, pilot: Pilot) -> Rollout:
    """Run the staged ``episode`` to the end of its time.

    Every ``pilot.executed`` control periods it observes and asks for a chunk; action i of a chunk is the target of the
    i-th control period after its observation. An episode that cannot go on (the simulation diverged, actions that are
    not finite) ends there.
    """
    pilot.begin(episode.instruction, case.seed)
    arrivals = np.random.default_rng([case.seed, 1])
    delay = round(case.condition.latency / CONTROL_PERIOD)
    start = episode.state
    states, frames, ended = [start], [], None
    answers = deque[tuple[int, np.ndarray]]()
    try:
        for step in range(round(episode.limit / CONTROL_PERIOD)):
            asks = step % pilot.executed == 0
            arrives = step == 0 or arrivals.random() >= case.condition.dropped
            if arrives and (asks or case.condition.dropped):
                images = episode.observe()
            if asks:
                frames.append(images)
                answers.append((step, pilot.chunk(images, states[-1])))
            while len(answers) > 1 and answers[1][0] + delay <= step:
                answers.popleft()
            observed, chunk = answers[0]
            episode.advance(chunk[step - observed] if observed + delay <= step else start)
            states.append(episode.state)
    except WorkFailed as error:
        ended = str(error)
    outcome = outcome_of(
        case,
        episode,
        Verdict(episode.succeeded_at, episode.holding, episode.time),
        np.array(states),
        chunks=len(frames),
        chunk_latency=pilot.latency,
        ended_because=ended,
    )
    return Rollout(outcome, frames)
