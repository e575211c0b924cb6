"""Writes the goldens of pruned policies: LeRobot 0.6.1's own policies, cut by `vla_export.prune.trainer`.

How to run it is in lerobot_tiny.py. Reads the checkpoints and observations that pi0_lerobot.py, pi05_lerobot.py and
smolvla_lerobot.py wrote. Written under ``tests/oracles/goldens/pruned/``: per family ``NAME/structure.json``, what is
left of it; ``tensors.txt``, what LeRobot then saves; and ``outputs.safetensors``, the normalised ten-step chunk that it
computes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lerobot_gemma as gemma
import lerobot_tiny as tiny
import pi0_lerobot
import pi05_lerobot
import smolvla_lerobot
import torch
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi05 import modeling_pi05
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "export" / "vla_export" / "prune"))
from trainer import cut_policy

GEMMA = {
    "vision": "model.paligemma_with_expert.paligemma.model.vision_tower.vision_model.encoder.layers",
    "language": "model.paligemma_with_expert.paligemma.model.language_model.layers",
    "expert": "model.paligemma_with_expert.gemma_expert.model.layers",
}
SMOL = {
    "vision": "model.vlm_with_expert.vlm.model.vision_model.encoder.layers",
    "language": "model.vlm_with_expert.vlm.model.text_model.layers",
    "expert": "model.vlm_with_expert.lm_expert.layers",
}
# By family: where LeRobot keeps the layers, which are kept, which of those as memory, and the kinds of the expert's.
CASES: dict[str, tuple[dict[str, str], tuple[int, ...], tuple[int, ...], tuple[str, ...]]] = {
    "pi0": (GEMMA, (0, 2, 3), (), ("joint",) * 4),
    "pi05": (GEMMA, (0, 1, 3), (0, 1), ("joint",) * 4),
    "smolvla": (SMOL, (0, 3), (0,), ("joint", "cross", "joint", "cross")),
}
CHANNELS = {"expert": 0, "vision": 1}  # by stack, the layer that keeps only its first channels
KEPT_CHANNELS = list(range(24))


def structure(family: str) -> dict[str, Any]:
    lists, kept, memory, kinds = CASES[family]

    def layer(stack: str, index: int) -> dict[str, Any]:
        return {
            "layer": index,
            "kind": kinds[index] if stack == "expert" else "self",
            "memory": stack == "language" and index in memory,
            "channels": KEPT_CHANNELS if CHANNELS.get(stack) == index else None,
            "heads": None,
        }

    stacks = {"vision": (0, 1), "language": kept, "expert": kept}
    return {
        "schema_version": 1,
        "family": family,
        "checkpoint": family,
        "checkpoint_sha256": "0" * 64,
        "layer_lists": lists,
        "structure": {"stacks": {stack: [layer(stack, n) for n in layers] for stack, layers in stacks.items()}},
    }


def whole(family: str) -> Any:
    if family == "smolvla":
        words = smolvla_lerobot.tokenizer()
        smolvla_lerobot.write_vlm(smolvla_lerobot.VLM, smolvla_lerobot.vlm_config(words.get_vocab_size()), words)
        return smolvla_lerobot.SmolVLAPolicy(smolvla_lerobot.configure(smolvla_lerobot.MAIN))
    script, modeling, corpus, settings = {
        "pi0": (pi0_lerobot, modeling_pi0, tiny.TASKS, {"empty_cameras": 1}),
        "pi05": (pi05_lerobot, modeling_pi05, pi05_lerobot.PROMPTS, {}),
    }[family]
    words = tiny.gemma_tokenizer(corpus)
    tiny.as_paligemma(words)
    with gemma.tiny_sizes(modeling, script.SIZES, words.get_vocab_size()):
        build = modeling.PI0Policy if family == "pi0" else modeling.PI05Policy
        return build(script.configure(script.MAIN, **settings))


@torch.no_grad()
def chunk(policy: Any, seen: dict[str, torch.Tensor]) -> torch.Tensor:
    images, masks = list(seen["images"].split(1)), list(seen["image_mask"].unbind(1))
    rest: Iterable[torch.Tensor] = (seen[n] for n in ("tokens", "token_mask", "state") if n in seen)
    return policy.model.sample_actions(images, masks, *rest, noise=seen["noise"])


def main() -> None:
    for family in CASES:
        directory = tiny.GOLDENS / "pruned" / family
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "structure.json").write_text(json.dumps(structure(family), indent=1) + "\n")
        policy = whole(family).eval()
        policy.load_state_dict(load_file(tiny.GOLDENS / family / "model.safetensors"))
        cut_policy(policy, directory)
        found = chunk(policy, load_file(tiny.GOLDENS / f"{family}_outputs.safetensors"))
        shapes = "".join(f"{name} {list(t.shape)}\n" for name, t in sorted(policy.state_dict().items()))
        (directory / "tensors.txt").write_text(shapes)
        tiny.write_tensors(f"pruned/{family}/outputs.safetensors", {"chunk": found})


if __name__ == "__main__":
    with tiny.working_directory():
        main()
