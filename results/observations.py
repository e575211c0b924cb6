"""What the scripted expert sees and does: what merging and pruning are calibrated on, and what they are judged on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from results import lerobot_files
from results.moment import Moment
from results.places import OUT
from results.setting import SHIFT, SHIFTED
from vla_runtime.policy.observation import Observation
from vla_runtime.sim.episode import Episode
from vla_runtime.sim.expert import Expert
from vla_runtime.sim.perturbation import NOMINAL, Perturbation

HELD_OUT = 120

# Evaluation counts from 0 on, demonstrations to train on from 1,000,000 on.
_CALIBRATION_SEEDS, _HELD_OUT_SEEDS = 800_000, 900_000
_EPISODES = 24  # of each task
_NOISE = 0.02  # [rad], of what the expert executes: one that never errs shows no way back


def calibration(tasks: tuple[str, ...], shifted: bool) -> Path:
    """A LeRobot dataset of successful episodes of ``tasks``, for ``vla-export --calibration``; made where missing.

    shifted: seen as in `results.setting.SHIFTED`.
    """
    perturbation = SHIFTED if shifted else NOMINAL
    setting = f"side-camera-{SHIFT:g}" if shifted else "nominal"
    directory = OUT / "calibration" / f"{'-'.join(tasks)}-{setting}"
    if not directory.is_dir():
        lerobot_files.write(directory, list(_episodes(tasks, perturbation, _CALIBRATION_SEEDS)))
    return directory


@cache
def held_out(tasks: tuple[str, ...], shifted: bool) -> tuple[Moment, ...]:
    """`HELD_OUT` moments, as many of each task, from episodes that nothing else sees, spread over the time in them."""
    perturbation = SHIFTED if shifted else NOMINAL
    found: list[Moment] = []
    for task in tasks:
        moments = [moment for episode in _episodes((task,), perturbation, _HELD_OUT_SEEDS) for moment in episode]
        chosen = np.linspace(0, len(moments) - 1, HELD_OUT // len(tasks)).round().astype(int)
        found += [moments[n] for n in chosen]
    return tuple(found)


def _episodes(tasks: Sequence[str], perturbation: Perturbation, first: int) -> Iterator[Sequence[Moment]]:
    """The first `_EPISODES` of each task, from the seed ``first`` on, in which the expert succeeds."""
    for task in tasks:
        episode, found, seed = Episode(task, first), 0, first
        while found < _EPISODES:
            moments = _demonstrated(episode, seed, perturbation)
            seed += 1
            if episode.success:
                found += 1
                yield moments
        episode.close()


def _demonstrated(episode: Episode, seed: int, perturbation: Perturbation) -> list[Moment]:
    episode.restart(seed, perturbation=perturbation)
    expert = Expert(episode, noise=_NOISE, seed=seed)
    moments = []
    while not episode.success and episode.time < episode.limit:
        intended = expert.chunk(episode.colour)
        if intended is None:
            raise ValueError("the expert always means something for the named cube")
        moments.append(Moment(Observation(episode.observe(), episode.state), episode.instruction, intended))
        episode.advance(expert.act())
    return moments
