"""Setting the scene for a case."""

from __future__ import annotations

from vla_evaluation.case import Case
from vla_runtime.sim.episode import Episode
from vla_runtime.sim.scene import CUBES


def stage(episode: Episode, case: Case) -> None:
    """Make ``episode``, which is of the case's task, the case's own; swapped, the instruction names the next cube."""
    perturbation = case.condition.perturbation
    episode.restart(case.seed, perturbation=perturbation)
    if case.swap:
        episode.restart(case.seed, colour=another(episode.colour), perturbation=perturbation)


def another(colour: str) -> str:
    """Another cube's colour: always the same one for each."""
    return CUBES[(CUBES.index(colour) + 1) % len(CUBES)]
