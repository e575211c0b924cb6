"""Demonstrations as `reference.demonstrations` writes them, in memory, as batches to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reference.checkpoint import Statistics
from reference.vocabulary import instruction_tokens, is_word
from vla_runtime.errors import BadInput

HELD_OUT = 25  # of so many episodes, one is held out
LEAST_STD = 1e-3  # [rad] or [m]: a number that never moved is not blown up


@dataclass(frozen=True)
class Frames:
    """Moments of demonstrations. N frames, 2 cameras (side, wrist), 3 cubes (red, green, blue).

    images: (N, 2, S, S, 3) uint8. state: (N, 7) [rad, m]. chunks: what the expert would do for each cube, absolute
    targets, (N, 3, H, 7). valid: whether it would, (N, 3). beside, beside_valid: the same for the named cube, by the
    cube beside which it is put. named: the demonstrated cube, (N,). goal: the cube beside which it is put, -1
    elsewhere, (N,). cubes: positions [m], (N, 3, 3). task: index into `vla_runtime.sim.episode.TASKS`, (N,).
    episode, step: (N,).
    """

    images: Tensor
    state: Tensor
    chunks: Tensor
    valid: Tensor
    beside: Tensor
    beside_valid: Tensor
    named: Tensor
    goal: Tensor
    cubes: Tensor
    task: Tensor
    episode: Tensor
    step: Tensor

    def __len__(self) -> int:
        return len(self.state)

    def choose(self, which: Tensor) -> Frames:
        """Those of the indices or the mask."""
        return Frames(*(getattr(self, f.name)[which] for f in fields(self)))

    def statistics(self) -> Statistics:
        """Of states and of the actions of every valid chunk."""
        actions = self.chunks[self.valid].reshape(-1, self.chunks.shape[-1])
        return Statistics(
            self.state.mean(0), self.state.std(0).clamp(LEAST_STD), actions.mean(0), actions.std(0).clamp(LEAST_STD)
        )


@dataclass(frozen=True)
class Batch:
    """What a policy sees at B frames and is asked to do.

    images: (B * 2, 3, S, S) in [-1, 1]. tokens: (B, T) int32. token_mask: (B, T). state: (B, 7) [rad, m].
    chunk: (B, H, 7) [rad, m]. cubes: (B, 3, 3) [m].
    """

    images: Tensor
    tokens: Tensor
    token_mask: Tensor
    state: Tensor
    chunk: Tensor
    cubes: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(*(getattr(self, f.name).to(device) for f in fields(self)))


def read_frames(directories: Sequence[Path]) -> tuple[Frames, Frames]:
    """Every shard of the directories: frames to train on, and frames of held-out episodes.

    Raises `BadInput` where a directory holds no shard, or a shard lacks a tensor.
    """
    shards = []
    for directory in directories:
        files = sorted(directory.glob("*.safetensors"))
        if not files:
            raise BadInput(f"{directory} holds no demonstrations: write some with python -m reference.demonstrations")
        shards += [_read_shard(file) for file in files]
    frames = Frames(*(torch.cat([getattr(shard, f.name) for shard in shards]) for f in fields(Frames)))
    held_out = frames.episode % HELD_OUT == 0
    if not held_out.any() or held_out.all():
        raise BadInput(f"too few episodes in {', '.join(map(str, directories))}: one of {HELD_OUT} is held out")
    return frames.choose(~held_out), frames.choose(held_out)


def _read_shard(file: Path) -> Frames:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    missing = [f.name for f in fields(Frames) if f.name not in tensors]
    if missing:
        raise BadInput(f"{file} is no shard of demonstrations: it lacks {', '.join(missing)}")
    wide = {name: tensors[name].long() for name in ("named", "task", "goal", "episode", "step")}
    return Frames(**{f.name: wide.get(f.name, tensors[f.name]) for f in fields(Frames)})


def draw(frames: Frames, count: int, generator: torch.Generator) -> Batch:
    """A random batch; each frame is labelled for a random one of the instructions the expert could follow there."""
    chosen = frames.choose(torch.randint(len(frames), (count,), generator=generator))
    elsewhere = chosen.beside_valid & (torch.arange(chosen.beside_valid.shape[1]) != chosen.goal[:, None])
    possible = torch.cat((chosen.valid, elsewhere), dim=1).float()
    pick = torch.multinomial(possible, 1, generator=generator)[:, 0]
    cubes = chosen.valid.shape[1]
    return _labelled(
        chosen,
        cube=torch.where(pick < cubes, pick, chosen.named),
        goal=torch.where(pick < cubes, chosen.goal, pick - cubes),
        chunk=torch.cat((chosen.chunks, chosen.beside), dim=1)[torch.arange(count), pick],
    )


def ask(frames: Frames, cube: Tensor) -> Batch:
    """Frames with the instruction that names ``cube``, by index (N,), and the chunk that obeys it."""
    return _labelled(frames, cube, frames.goal, frames.chunks[torch.arange(len(frames)), cube])


def _labelled(frames: Frames, cube: Tensor, goal: Tensor, chunk: Tensor) -> Batch:
    tokens = instruction_tokens()[frames.task, cube, goal]
    return Batch(
        images=(frames.images.flatten(0, 1).permute(0, 3, 1, 2).float() / 255) * 2 - 1,
        tokens=tokens,
        token_mask=is_word(tokens),
        state=frames.state,
        chunk=chunk,
        cubes=frames.cubes,
    )
