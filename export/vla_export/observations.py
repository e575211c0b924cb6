"""The observations an export measures on: a calibration set, or synthetic ones where there is none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vla_calibration.dataset import read
from vla_export.checkpoints.checkpoint import Interface
from vla_export.sample import Sample
from vla_runtime.errors import BadInput
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.policy import Observation
from vla_runtime.policy.statistics import normalise
from vla_runtime.policy.tokens import TaskTokenizer

SYNTHETIC_TASKS = ("pick up the red cube", "move to the blue cube", "put the green cube on the table", "hold still")


@dataclass(frozen=True)
class Observations:
    """Samples to decide by and, apart from them, samples to judge by; ``synthetic`` ones look like no real scene."""

    calibration: tuple[Sample, ...]
    held_out: tuple[Sample, ...]
    source: str
    synthetic: bool


def synthetic(interface: Interface, count: int = 16, seed: int = 0) -> Observations:
    """Smooth random pictures with random blocks, random states of the policy's own statistics, and a few tasks."""
    generator = np.random.default_rng(seed)
    observations = [
        (
            Observation(
                images={c.name: _picture(generator, c.height, c.width) for c in interface.cameras},
                state=_state(generator, interface),
            ),
            SYNTHETIC_TASKS[n % len(SYNTHETIC_TASKS)],
        )
        for n in range(count)
    ]
    return _split(interface, observations, seed, f"{count} synthetic observations (seed {seed})", True)


def captured(interface: Interface, directory: Path, seed: int = 0) -> Observations:
    """The observations `vla-calibrate capture` wrote; every second one is held out."""
    recording = read(directory)
    wanted = [c.name for c in interface.cameras]
    missing = sorted(set(wanted) - set(recording.images))
    if missing:
        raise BadInput(
            f"{directory} has no camera {', '.join(missing)}: the policy sees {', '.join(wanted)}, "
            f"the calibration set holds {', '.join(sorted(recording.images))}"
        )
    found, expected = (
        [f"{d.name} [{d.unit}]" for d in dims] for dims in (recording.dimensions, interface.state.dimensions)
    )
    if found != expected:
        raise BadInput(f"{directory} holds the state {', '.join(found)}; the policy's is {', '.join(expected)}")
    if recording.task is None:
        raise BadInput(f"{directory} names no task: capture it again with --task TEXT, as the policy reads it")
    task, count = recording.task, len(recording.state)
    if count < 2:
        raise BadInput(f"{directory} holds {count} observation: at least 2 are needed, one of them held out")
    observations = [
        (Observation({name: recording.images[name][n] for name in wanted}, recording.state[n]), task)
        for n in range(count)
    ]
    return _split(interface, observations, seed, f"{count} observations captured in {directory.name}", False)


def _split(
    interface: Interface, observations: Iterable[tuple[Observation, str]], seed: int, source: str, synthetic: bool
) -> Observations:
    tokenizer = TaskTokenizer(interface.tokenizer_path, interface.tokenizer)
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for observation, task in observations:
        images = [letterbox(observation.images[c.name], c.height, c.width) for c in interface.cameras]
        tokens, token_mask = tokenizer(task)
        samples.append(
            Sample(
                observed={
                    "images": torch.from_numpy(np.stack(images)),
                    "tokens": torch.from_numpy(tokens),
                    "token_mask": torch.from_numpy(token_mask),
                    "state": torch.from_numpy(normalise(observation.state[None], interface.state)),
                },
                noise=torch.randn(1, interface.horizon, interface.action.padded_to, generator=generator),
            )
        )
    return Observations(tuple(samples[::2]), tuple(samples[1::2]), source, synthetic)


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
    if space.normalisation.mode == "mean_std":
        drawn = np.asarray(space.normalisation.mean) + drawn * np.asarray(space.normalisation.std)
    lower = [-np.inf if d.lower is None else d.lower for d in space.dimensions]
    upper = [np.inf if d.upper is None else d.upper for d in space.dimensions]
    return np.clip(drawn, lower, upper)
