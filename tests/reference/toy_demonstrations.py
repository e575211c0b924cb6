"""Random frames in the form of a shard of demonstrations, and sizes of a policy of a few thousand parameters."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import Pi0Config
from vla_export.models.stem import StemSize

SIZES = Pi0Config(
    vision=StemSize(channels=(8,), width=16),
    language=StackSize(depth=2, width=16, mlp=24, heads=2, kv_heads=1, head_dim=8),
    expert=StackSize(depth=2, width=12, mlp=16, heads=2, kv_heads=1, head_dim=8),
    vocabulary=32,
    image_size=16,
    horizon=16,
    state_width=7,
    action_width=7,
)


def write_shards(directory: Path, episodes: int = 50, steps: int = 3) -> list[Path]:
    """A directory with one shard for each task; the last, where cubes are put down, has goals."""
    generator = torch.Generator().manual_seed(0)
    rows = episodes * steps
    directories = []
    for task in range(3):
        named = torch.randint(0, 3, (rows,), generator=generator)
        goal = (named + 1) % 3 if task == 2 else torch.full((rows,), -1)
        valid = torch.arange(3) != goal[:, None]
        shard = {
            "images": torch.randint(0, 256, (rows, 2, 16, 16, 3), generator=generator, dtype=torch.uint8),
            "state": torch.randn(rows, 7, generator=generator),
            "chunks": torch.randn(rows, 3, 16, 7, generator=generator),
            "valid": valid,
            "beside": torch.randn(rows, 3, 16, 7, generator=generator),
            "beside_valid": (task == 2) & (torch.arange(3) != named[:, None]),
            "named": named.to(torch.int8),
            "goal": goal.to(torch.int8),
            "cubes": 0.05 * torch.randn(rows, 3, 3, generator=generator),
            "task": torch.full((rows,), task, dtype=torch.int8),
            "episode": torch.arange(episodes).repeat_interleave(steps).int(),
            "step": torch.arange(steps).repeat(episodes).short(),
        }
        directories.append(directory / str(task))
        directories[-1].mkdir(parents=True)
        save_file(shard, directories[-1] / "shard-00000.safetensors")
    return directories
