"""What became of one episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vla_evaluation.case import Case
from vla_evaluation.film_strip import Frames
from vla_evaluation.motion import joint_jerk, tip_path_length
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode


class Outcome(BaseModel):
    """One finished episode, as a line of results.jsonl.

    key: which episode of the evaluation this is.
    colour: the cube the instruction named.
    success: the named cube's task was achieved at some moment; succeeded_at: when first, in [s] of simulated time.
    holding: it was still achieved when the time was up.
    path_length: of the point between the fingertips, in [m]; jerk: rms over the joints, in [rad/s³].
    interventions: what the safety layer did, by kind; None where the episode ran without one.
    chunk_latency: median time from images to actions, in [ms]; None where no chunk was made.
    ended_because: why the episode could not go on, where it could not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    bundle: str
    condition: str
    seed: int
    colour: str
    instruction: str
    success: bool
    succeeded_at: float | None
    holding: bool
    duration: float
    path_length: float
    jerk: float | None
    chunks: int
    chunk_latency: float | None
    interventions: dict[str, int] | None = None
    ended_because: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the scene says of an episode.

    succeeded_at: when the task was first achieved, in [s] since the policy took over; None where never.
    holding: it is achieved now. duration: [s] since the policy took over.
    """

    succeeded_at: float | None
    holding: bool
    duration: float


@dataclass(frozen=True)
class Rollout:
    """An episode that was run, and what the policy saw meanwhile."""

    outcome: Outcome
    frames: Frames


def outcome_of(
    case: Case,
    episode: Episode,
    verdict: Verdict,
    states: NDArray[np.float64],
    *,
    chunks: int,
    chunk_latency: float | None,
    interventions: dict[str, int] | None = None,
    ended_because: str | None = None,
) -> Outcome:
    """The outcome in figures. ``states``: measured once a `CONTROL_PERIOD`, shape (n, 7)."""
    jerk = joint_jerk(states, CONTROL_PERIOD)
    return Outcome(
        key=case.key,
        bundle=case.bundle,
        condition=case.condition.name,
        seed=case.seed,
        colour=episode.colour,
        instruction=episode.instruction,
        success=verdict.succeeded_at is not None,
        succeeded_at=None if verdict.succeeded_at is None else round(verdict.succeeded_at, 3),
        holding=verdict.holding,
        duration=round(verdict.duration, 3),
        path_length=round(tip_path_length(states), 6),
        jerk=None if jerk is None else round(jerk, 6),
        chunks=chunks,
        chunk_latency=None if chunk_latency is None else round(chunk_latency, 3),
        interventions=interventions,
        ended_because=ended_because,
    )
