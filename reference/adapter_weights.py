"""A LoRA-SP adapter for a reference policy: random, small, different for every input; it stands in for a trained one.

``python -m reference.adapter_weights CHECKPOINT [--seed 0] [--strength 0.001]`` writes adapters.safetensors and its
configuration adapters.json into a checkpoint's directory, under the oldest names, which LoRA-SP's own files have.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reference.checkpoint import write_json
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.reading import read
from vla_export.models.blocks import Stack
from vla_export.models.flow_model import FlowModel
from vla_runtime.command import DONE, run

CONFIGURATION: dict[str, object] = {
    "method": "lora_sp",
    "r": 8,
    "alpha": 16,
    "num_experts": 4,
    "threshold": 0.9,
    "semantics": "released",
}
BANK = 8 * 4  # r * num_experts directions, all of them in one bank
STACKS = ("language", "expert")
DEMO_STRENGTH = 0.001  # moves the trained policy's actions by about a hundredth


def write_adapter(directory: Path, model: FlowModel, generator: torch.Generator, strength: float) -> None:
    """Write the adapter of ``model`` into its checkpoint's directory; ``strength`` is the spread of B."""
    adapter = random_adapter(model, generator, strength)
    save_file({_released_name(key): tensor for key, tensor in adapter.items()}, directory / "adapters.safetensors")
    write_json(directory / "adapters.json", CONFIGURATION)


def write_demo_adapter(checkpoint: Path, seed: int = 0, strength: float = DEMO_STRENGTH) -> None:
    """Read a checkpoint and write an adapter beside it, the same for the same seed."""
    write_adapter(checkpoint, read(checkpoint).model, torch.Generator().manual_seed(seed), strength)


def random_adapter(model: FlowModel, generator: torch.Generator, strength: float) -> dict[str, Tensor]:
    """A, B and router of every linear of the language model and the expert; keys start with our name of the linear.

    Shapes: A (bank, in), B (out, bank), router.weight (bank, in).
    """
    tensors: dict[str, Tensor] = {}
    for stack in (model.stacks()[name] for name in STACKS):
        for path, linear in _linears(stack):
            wide, narrow = linear.in_features, linear.out_features
            tensors[f"{path}.A"] = torch.randn(BANK, wide, generator=generator) / wide**0.5
            tensors[f"{path}.B"] = strength * torch.randn(narrow, BANK, generator=generator)
            tensors[f"{path}.router.weight"] = torch.randn(BANK, wide, generator=generator) / wide**0.5
    return tensors


def _linears(stack: Stack) -> list[tuple[str, nn.Linear]]:
    return [(f"{stack.name}.{path}", m) for path, m in stack.named_modules() if isinstance(m, nn.Linear)]


def _released_name(key: str) -> str:
    """An adapter tensor as LoRA-SP names it: its code base is older than LeRobot 0.6."""
    module, tensor = next((key.removesuffix(t), t) for t in (".router.weight", ".A", ".B") if key.endswith(t))
    *_, oldest = PI0_KEYS.every_name(PI0_KEYS.theirs(f"{module}.weight").removesuffix(".weight"))
    return oldest + tensor


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a random LoRA-SP adapter beside a checkpoint.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, default=DEMO_STRENGTH)
    arguments = parser.parse_args()

    def work() -> int:
        write_demo_adapter(arguments.checkpoint, arguments.seed, arguments.strength)
        print(f"wrote {arguments.checkpoint / 'adapters.safetensors'}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
