"""Demonstrations of the scripted expert, with what it would have done had another cube been named.

``python -m reference.demonstrations OUT --task lift --count 1450 [--seed 0] [--workers 2]`` writes shards of `SHARD`
demonstrations, ``lift-00000.safetensors`` and on: the same bytes for the same task and seed. Shards that are there are
kept, so an interrupted command is continued by giving it again. With ``--side-camera 0.5`` the side camera stands
elsewhere (`vla_runtime.sim.perturbation`), and the shards are ``lift-camera-0.5-00000.safetensors`` and on.

A shard's tensors, one row for each frame:

- ``images`` uint8 (N, 2, 64, 64, 3): what the cameras side and wrist see, RGB.
- ``state`` float32 (N, 7): six joints [rad] and the gripper's opening [m].
- ``chunks`` float32 (N, 3, 16, 7): the motors' targets of the next 16 control periods of 0.1 s, were the red, the green
  or the blue cube named; ``valid`` bool (N, 3): where that has a meaning, zeros elsewhere.
- ``named`` int8 (N,): the cube that is demonstrated. ``goal`` int8 (N,): the one beside which it is put, or -1.
- ``beside`` float32 (N, 3, 16, 7), ``beside_valid`` bool (N, 3): as ``chunks`` for the named cube, were it to be put
  beside the red, the green or the blue one; while it is lifted and carried.
- ``cubes`` float32 (N, 3, 3): centres of the red, green and blue cube [m], in the base frame.
- ``task`` int8 (N,): index into `vla_runtime.sim.episode.TASKS`. ``episode`` int32 (N,): seed of the episode.
- ``step`` int16 (N,): control periods since its start.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from safetensors.numpy import save_file

from vla_runtime.command import DONE, run
from vla_runtime.errors import BadInput
from vla_runtime.sim.episode import TASKS, Episode
from vla_runtime.sim.expert import HORIZON, Expert
from vla_runtime.sim.perturbation import NOMINAL, Perturbation
from vla_runtime.sim.scene import CUBES

SHARD = 25  # demonstrations
HELD_OUT = 1_000_000
"""Seeds below this are for evaluation: no demonstration uses them."""

IMAGE_SIZE = 64
_NOISE = (0.0, 0.02, 0.03, 0.04)  # [rad], each in a quarter of the demonstrations
_EVERY = {"reach": 1, "lift": 2, "place": 2}  # control periods from one recorded frame to the next
_AFTERWARDS = {"reach": 1.5, "lift": 1.0, "place": 0.8}  # [s], recorded after the task has been achieved

Frame = dict[str, NDArray[np.generic]]


def write_demonstrations(
    directory: Path,
    task: str,
    number: int,
    *,
    seed: int = 0,
    workers: int = 1,
    perturbation: Perturbation = NOMINAL,
    progress: Callable[[Iterable[Path], int], Iterable[Path]] = lambda shards, total: shards,
) -> list[Path]:
    """Write at least ``number`` successful demonstrations in whole shards; returns every shard's path.

    ``progress``: passes on the shards as they become complete; also told how many there will be. Raises `BadInput`
    for an unknown task, for numbers out of range, and for a perturbation of more than the side camera's place: only
    that one is in the shards' names.
    """
    if task not in TASKS:
        raise BadInput(f"task '{task}' is unknown: choose from {', '.join(TASKS)}")
    if number < 1 or workers < 1:
        raise BadInput(f"--count {number} and --workers {workers} must be at least 1")
    if not 0 <= seed < 500:
        raise BadInput(f"--seed {seed} is not between 0 and 499")
    if perturbation != Perturbation(side_camera=perturbation.side_camera):
        raise BadInput("demonstrations are of the usual scene or of another place of the side camera, of nothing else")
    directory.mkdir(parents=True, exist_ok=True)
    name = task if perturbation == NOMINAL else f"{task}-camera-{perturbation.side_camera:g}"
    shards = [(directory / f"{name}-{rank:05d}.safetensors", rank) for rank in range(-(-number // SHARD))]
    missing = [(path, rank) for path, rank in shards if not path.exists()]
    write = partial(_write_shard, task, seed, perturbation)
    if workers == 1:
        _exhaust(progress(map(write, missing), len(missing)))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            _exhaust(progress(pool.map(write, missing), len(missing)))
    return [path for path, _ in shards]


def _exhaust(shards: Iterable[Path]) -> None:
    deque(shards, maxlen=0)


def _write_shard(task: str, seed: int, perturbation: Perturbation, shard: tuple[Path, int]) -> Path:
    """Write beside its place and rename, so that what has the name is complete."""
    path, rank = shard
    first = HELD_OUT * (1 + seed * len(TASKS) + TASKS.index(task)) + rank * 10 * SHARD
    frames = [frame for demonstration in _successes(task, first, perturbation) for frame in demonstration]
    tensors = {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
    partial_path = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        save_file(tensors, partial_path)
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)
    return path


def _successes(task: str, first: int, perturbation: Perturbation) -> Iterator[list[Frame]]:
    """The first `SHARD` demonstrations that succeed, from the seed ``first`` on."""
    episode, found, seed = Episode(task, first, image_size=IMAGE_SIZE), 0, first
    while found < SHARD:
        frames = demonstrate(episode, seed, perturbation)
        seed += 1
        if episode.success:
            found += 1
            yield frames
    episode.close()


def demonstrate(episode: Episode, seed: int, perturbation: Perturbation = NOMINAL) -> list[Frame]:
    """The frames of one demonstration: the tensors of the module's list without their first axis."""
    episode.restart(seed, perturbation=perturbation)
    expert = Expert(episode, noise=_NOISE[seed % len(_NOISE)], seed=seed)
    frames: list[Frame] = []
    for step in count():
        if episode.time >= _end(episode):
            break
        if step % _EVERY[episode.task] == 0:
            frames.append(_frame(episode, expert, seed, step))
        episode.advance(expert.act())
    return frames


def _end(episode: Episode) -> float:
    """When the demonstration is over [s], as far as is known now."""
    if episode.succeeded_at is None:
        return episode.limit
    return episode.succeeded_at + _AFTERWARDS[episode.task]


def _frame(episode: Episode, expert: Expert, seed: int, step: int) -> Frame:
    chunks, valid = _labels(expert.chunk)
    beside, beside_valid = _labels(expert.chunk_beside)
    images, cubes = episode.observe(), episode.scene.cube_positions()
    return {
        "images": np.stack([images["side"], images["wrist"]]),
        "state": episode.state.astype(np.float32),
        "chunks": chunks,
        "valid": valid,
        "beside": beside,
        "beside_valid": beside_valid,
        "named": np.array(CUBES.index(episode.colour), dtype=np.int8),
        "goal": np.array(-1 if episode.goal is None else CUBES.index(episode.goal), dtype=np.int8),
        "cubes": np.stack([cubes[cube] for cube in CUBES]).astype(np.float32),
        "task": np.array(TASKS.index(episode.task), dtype=np.int8),
        "episode": np.array(seed, dtype=np.int32),
        "step": np.array(step, dtype=np.int16),
    }


def _labels(chunk: Callable[[str], NDArray[np.float64] | None]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    chunks = [chunk(cube) for cube in CUBES]
    filled = [np.zeros((HORIZON, 7)) if chunk is None else chunk for chunk in chunks]
    return np.stack(filled).astype(np.float32), np.array([chunk is not None for chunk in chunks])


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reference.demonstrations", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="directory for the shards")
    parser.add_argument("--task", required=True, help=", ".join(TASKS))
    parser.add_argument("--count", type=int, required=True, help=f"demonstrations, in shards of {SHARD}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--side-camera", type=float, default=0.0, metavar="X", help="its place, 0 to 1 (default: 0)")
    options = parser.parse_args()
    shards = write_demonstrations(
        options.out,
        options.task,
        options.count,
        seed=options.seed,
        workers=options.workers,
        perturbation=Perturbation(side_camera=options.side_camera),
        progress=lambda shards, total: track(shards, description=options.task, total=total),
    )
    print(f"{len(shards)} shards in {options.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(run(main))
