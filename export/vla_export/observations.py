"""The observations an export measures on: recorded ones, or synthetic ones where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vla_calibration.opening import open_recording
from vla_calibration.recording import Episode, PolicyInputs
from vla_calibration.selection import SETS, select
from vla_export.checkpoints.checkpoint import Interface
from vla_export.sample import Sample
from vla_runtime.errors import BadInput
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.preprocessing import Preprocessor
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.policy.units import to_si
from vla_runtime.profiling.spans import Spans

SYNTHETIC_TASKS = ("pick up the red cube", "move to the blue cube", "put the green cube on the table", "hold still")
RECORDED = 96
"""Most observations of a recording that are used."""


@dataclass(frozen=True)
class Observations:
    """Samples to fit to, others to choose between fits by, and others again to judge by.

    synthetic: they look like no real scene.
    """

    calibration: Sequence[Sample]
    choosing: Sequence[Sample]
    held_out: Sequence[Sample]
    source: str
    synthetic: bool


def synthetic(interface: Interface, count: int = 18, seed: int = 0, task: str | None = None) -> Observations:
    """Smooth random pictures with random blocks, random states of the policy's own statistics, and a few tasks.

    task: the only one, where it is given.
    """
    generator = np.random.default_rng(seed)
    tasks = SYNTHETIC_TASKS if task is None else (task,)
    sampling = _Sampling(interface, seed)
    samples = []
    for n in range(count):
        images = {c.name: _picture(generator, c.height, c.width) for c in interface.cameras}
        samples.append(sampling(Observation(images, _state(generator, interface)), tasks[n % len(tasks)]))
    source = f"{count} synthetic observations (seed {seed}){'' if task is None else f' of the task {task!r}'}"
    calibration, choosing, held_out = (tuple(samples[n::SETS]) for n in range(SETS))
    return Observations(calibration, choosing, held_out, source, True)


def recorded(interface: Interface, directory: Path, task: str | None = None, seed: int = 0) -> Observations:
    """At most `RECORDED` observations of a capture, a LeRobot dataset or a rosbag, a third for each set.

    Where there are three episodes or more, none is in two sets.

    task: the only one. Where the recording names it, the rest of the recording is left out; else all of it is taken as
    if it had been recorded under this task.
    Raises `BadInput` where ``directory`` cannot be read, does not fit the policy, or names no task and none is given.
    """
    recording = open_recording(directory, PolicyInputs(interface.trained_cameras, interface.state))
    episodes, which = _of_task(recording.episodes, task)
    count = sum(len(episode.frames) for episode in episodes)
    if count < SETS:
        raise BadInput(
            f"{directory} holds {count} observation{'' if count == 1 else 's'}{which}: at least {SETS} are needed, one "
            "to fit to, one to choose by and one to judge by"
        )
    selection = select(episodes, RECORDED, seed)
    chosen = {**selection.calibration, **selection.choosing, **selection.held_out}
    tasks = {moment: _named(directory, found) for moment, found in chosen.items()}
    sampling = _Sampling(interface, seed)
    samples = {moment: sampling(observation, tasks[moment]) for moment, observation in recording.read(list(tasks))}
    numbers = len({moment.episode for moment in samples})
    several = f"{numbers} episodes of " if numbers > 1 else ""
    return Observations(
        tuple(samples[moment] for moment in selection.calibration),
        tuple(samples[moment] for moment in selection.choosing),
        tuple(samples[moment] for moment in selection.held_out),
        f"{len(samples)} observations of {several}the {recording.name}{which}",
        False,
    )


def _of_task(episodes: Sequence[Episode], task: str | None) -> tuple[Sequence[Episode], str]:
    """The episodes to use, and in words which they are."""
    if task is None:
        return episodes, ""
    same = [episode for episode in episodes if (episode.task or "").strip() == task.strip()]
    if same:
        return same, f", of the task {task!r}"
    return [replace(episode, task=task) for episode in episodes], f", taken under the task {task!r}, which it has not"


def _named(directory: Path, task: str | None) -> str:
    if task is None:
        raise BadInput(f"{directory} names no task: give the one that the policy is to read with --task TEXT")
    return task


class _Sampling:
    """Observation and task → the policy's tensors as the robot makes them, and noise of its own for each."""

    def __init__(self, interface: Interface, seed: int) -> None:
        tokenizer = TaskTokenizer(interface.tokenizer_definition, interface.tokenizer)
        self._preprocessor = Preprocessor(interface.cameras, interface.state, tokenizer, Spans())
        self._chunk = (1, interface.horizon, interface.action.padded_to)
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, observation: Observation, task: str) -> Sample:
        self._preprocessor.set_task(task)
        observed = {name: torch.from_numpy(array) for name, array in self._preprocessor(observation).items()}
        return Sample(observed, torch.randn(self._chunk, generator=self._generator))


def _picture(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(3):
        x, y = generator.integers(0, width), generator.integers(0, height)
        side = max(2, int(min(height, width) * generator.uniform(0.05, 0.2)))
        picture[y : y + side, x : x + side] = generator.integers(0, 256, 3, dtype=np.uint8)
    return picture.astype(np.uint8, copy=False)


def _state(generator: np.random.Generator, interface: Interface) -> NDArray[np.float64]:
    space = interface.state
    drawn = generator.standard_normal(len(space.dimensions))
    drawn = np.asarray(space.normalisation.offset) + drawn * np.asarray(space.normalisation.scale)
    lower = [-np.inf if d.lower is None else d.lower for d in space.dimensions]
    upper = [np.inf if d.upper is None else d.upper for d in space.dimensions]
    return to_si(np.clip(drawn, lower, upper), space)
