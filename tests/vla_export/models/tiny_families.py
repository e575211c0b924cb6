"""The tiny SmolVLA and π0.5 whose answers LeRobot 0.6.1 gave, with their observations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.checkpoints.weights import load_weights
from vla_export.models.blocks import StackSize
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi05 import Pi05, Pi05Config
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig
from vla_export.sample import Sample

GOLDENS = Path(__file__).parents[2] / "oracles" / "goldens"
FLOW_STEPS = 10
SMOLVLA = SmolVLAConfig(
    vision=StackSize(depth=2, width=24, mlp=40, heads=3, kv_heads=3, head_dim=8),
    language=StackSize(depth=4, width=48, mlp=72, heads=6, kv_heads=2, head_dim=10),
    expert=StackSize(depth=4, width=36, mlp=256, heads=6, kv_heads=2, head_dim=10),
    vocabulary=303,
    image_size=48,
    patch_size=6,
    pixel_shuffle=2,
    horizon=11,
    state_width=10,
    action_width=9,
)
PI05 = Pi05Config(
    vision=StackSize(depth=2, width=24, mlp=40, heads=3, kv_heads=3, head_dim=8),
    language=StackSize(depth=4, width=40, mlp=64, heads=6, kv_heads=2, head_dim=8),
    expert=StackSize(depth=4, width=24, mlp=56, heads=6, kv_heads=2, head_dim=8),
    vocabulary=300,
    image_size=42,
    patch_size=14,
    horizon=11,
    action_width=9,
)


def smolvla(**changed: object) -> SmolVLA:
    """With LeRobot's weights; ``changed``: fields of its config that no weight depends on."""
    with torch.device("meta"):
        model = SmolVLA(replace(SMOLVLA, **changed))  # type: ignore[arg-type]  # fields of several types
    _load(model, "smolvla", SMOLVLA_KEYS)
    return model


def pi05() -> Pi05:
    """With LeRobot's weights."""
    with torch.device("meta"):
        model = Pi05(PI05)
    _load(model, "pi05", PI05_KEYS)
    return model


# With words around the images, which most SmolVLAs are without, as their graph then holds all that it can hold.
FAMILIES: dict[str, Callable[[], FlowModel]] = {
    "smolvla": lambda: smolvla(image_start=(298, 297), image_end=(298,), empty_cameras=1),
    "pi05": pi05,
}


def _load(model: FlowModel, name: str, keys: KeyMap) -> None:
    load_weights(model, StoredTensors.in_directory(GOLDENS / name), keys)
    model.eval().requires_grad_(False)


def golden(name: str) -> dict[str, Tensor]:
    """What LeRobot was given, and what it computed."""
    return load_file(GOLDENS / f"{name}_outputs.safetensors")


def observed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `FlowModel.encode` takes of a golden."""
    names = [name for name in ("images", "tokens", "token_mask", "state") if name in tensors]
    return {name: tensors[name].int() if name == "tokens" else tensors[name] for name in names}


def random_samples(family: str, count: int) -> list[Sample]:
    """Two cameras of noise, tasks of three words and more, states and noise, of the golden's sizes."""
    like = golden(family)
    generator = torch.Generator().manual_seed(count)
    length = like["tokens"].shape[1]
    found = []
    for n in range(count):
        inputs = {
            "images": torch.rand(like["images"].shape, generator=generator) * 2 - 1,
            "tokens": torch.randint(5, 290, (1, length), generator=generator).int(),
            "token_mask": torch.arange(length)[None] < 3 + n % (length - 2),
        }
        if "state" in like:
            inputs["state"] = torch.randn(like["state"].shape, generator=generator)
        found.append(Sample(inputs, torch.randn(like["noise"].shape, generator=generator)))
    return found


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())
