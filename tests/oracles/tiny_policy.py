"""What the oracles of older releases share: a tiny policy's sizes, its tokenizer, random weights, an observation.

Imports nothing of LeRobot or openpi, so that it loads in the environment of each release.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SEED = 20_250_401

VISION = {"depth": 2, "width": 16, "mlp": 24, "heads": 2, "kv_heads": 2, "head_dim": 8}
LANGUAGE = {"depth": 2, "width": 32, "mlp": 40, "heads": 8, "kv_heads": 1, "head_dim": 8}
EXPERT = {"depth": 2, "width": 24, "mlp": 40, "heads": 8, "kv_heads": 1, "head_dim": 8}
PATCH_SIZE = 14
IMAGE_SIZE = 42
HORIZON = 6
NAMES = [*(f"joint{n}" for n in range(1, 7)), "gripper"]
CORPUS = ["put the red cube on the table", "pick up the green cube", "Task: push, State: 127 128 0 255;\nAction: "]


def write_tokenizer(directory: Path, specials: tuple[str, ...], bos: str | None) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a family's special tokens; with ``bos`` it prepends that token, as PaliGemma's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=290,
            special_tokens=list(specials),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    directory.mkdir(parents=True, exist_ok=True)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=specials[0], bos_token=bos)
    wrapped.save_pretrained(directory)
    (directory / "special_tokens_map.json").unlink()
    return wrapped


def randomise(model: torch.nn.Module, generator: torch.Generator, norms_at_one: str | None = "vision_tower") -> None:
    """Weights of variance 1 / fan-in, norms and biases around their neutral value.

    norms_at_one: part of the names of the norms whose neutral weight is one; None for all of them.
    """
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):  # the order of modules differs between releases
            if "normalize_" in name:  # the statistics that older releases keep among the parameters
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                is_at_one = name.endswith("weight") and (norms_at_one is None or norms_at_one in name)
                parameter.copy_(0.2 * noise + float(is_at_one))
            elif "position_embedding" in name:
                parameter.copy_(0.05 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def statistics(generator: torch.Generator) -> dict[str, dict[str, torch.Tensor]]:
    """Of a state and an action of seven numbers; ordered as statistics are (q01 above min, q99 below max)."""

    def random() -> dict[str, torch.Tensor]:
        low = -0.5 - torch.rand(len(NAMES), generator=generator)
        width = 1.0 + torch.rand(len(NAMES), generator=generator)
        return {
            "mean": torch.randn(len(NAMES), generator=generator),
            "std": torch.rand(len(NAMES), generator=generator) + 0.1,
            "min": low,
            "max": low + width,
            "q01": low + 0.05 * width,
            "q99": low + 0.95 * width,
        }

    return {"observation.state": random(), "action": random()}


def observation(
    generator: torch.Generator, cameras: tuple[str, ...] = ("side", "wrist")
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Camera → uint8 (3, 48, 64) frame, and a state of seven numbers, some of them beyond the quantiles."""
    frames = {c: torch.randint(0, 256, (3, 48, 64), generator=generator, dtype=torch.uint8) for c in cameras}
    return frames, 0.7 * torch.randn(len(NAMES), generator=generator)


def add_sizes(directory: Path, **sizes: Any) -> None:
    """Put what differs from the published sizes into config.json, where no release writes it."""
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | sizes, indent=4) + "\n")


def write_deployment(directory: Path, **more: Any) -> None:
    units = ["rad"] * 6 + ["m"]
    space = [{"name": n, "unit": u, "lower": -3.2, "upper": 3.2} for n, u in zip(NAMES, units, strict=True)]
    (directory / "deployment.yaml").write_text(yaml.safe_dump({"rate": 10, "state": space, "action": space} | more))


def tensors(
    frames: Mapping[str, torch.Tensor], raw_state: torch.Tensor, **computed: torch.Tensor
) -> dict[str, torch.Tensor]:
    """One flat dictionary of what goes in (frames as (height, width, 3)) and what a release computes."""
    found = {f"frame.{c}": f.permute(1, 2, 0) for c, f in frames.items()} | {"raw_state": raw_state} | computed
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}
