"""Writes the reference policy's checkpoint as LeRobot 0.6 lays one out, with a LoRA-SP adapter beside it.

``python -m reference.write_checkpoint DIR [--seed 0]``: config.json, model.safetensors, the two processors and their
statistics, tokenizer.json, deployment.yaml, adapters.safetensors and its configuration adapters.json.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import shutil
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from reference.adapter_weights import CONFIGURATION, reference_adapter
from reference.policy_weights import DIMENSIONS, SIZES, reference_policy
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.command import DONE, run
from vla_runtime.errors import BadInput

CAMERAS = ("side", "wrist")
NAMES = (*(f"joint{n}" for n in range(1, 7)), "gripper")
UNITS = ("rad",) * 6 + ("m",)
RATE = 10  # actions per second
FLOW_STEPS = 10
MAX_TOKENS = 48

# A pose above the table and the spread around it, in [rad] and [m]: three spreads stay inside the PiPER's limits.
MEAN = (0.0, 1.15, -1.2, 0.0, 0.6, 0.0, 0.035)
STD = (0.3, 0.13, 0.17, 0.2, 0.15, 0.3, 0.01)

CORPUS = [
    f"{verb} the {colour} cube {where}".strip()
    for verb in ("reach", "pick up", "push", "lift", "put down", "move to", "point at", "hold")
    for colour in ("red", "green", "blue")
    for where in ("", "on the table", "to the left", "to the right", "above the gripper")
]


def write_reference_checkpoint(directory: Path, seed: int = 0) -> None:
    """Write the checkpoint, the same bytes for the same seed, beside its place and then rename it there.

    An earlier checkpoint there is replaced; raises `BadInput` where something else is in the way.
    """
    if directory.exists() and not (directory / "config.json").is_file():
        if not directory.is_dir() or any(directory.iterdir()):
            raise BadInput(f"{directory} is in the way and is no checkpoint: choose another directory")
        directory.rmdir()
    partial = directory.with_name(f".{directory.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        _write_files(partial, torch.Generator().manual_seed(seed))
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def _write_files(directory: Path, generator: torch.Generator) -> None:
    model = reference_policy(generator)
    _write_json(directory / "config.json", _config())
    _write_weights(directory / "model.safetensors", model, generator)
    _write_processors(directory)
    _write_tokenizer(directory / "tokenizer.json")
    _write_deployment(directory / "deployment.yaml")
    adapter = reference_adapter(model, generator)
    save_file({_released_name(key): tensor for key, tensor in adapter.items()}, directory / "adapters.safetensors")
    _write_json(directory / "adapters.json", CONFIGURATION)


def _write_weights(path: Path, model: Pi0, generator: torch.Generator) -> None:
    """Ours under LeRobot's names, and the heads and the norm that LeRobot saves and nothing reads."""
    words, width = SIZES.vocabulary, SIZES.language.width
    unread = {
        "model.paligemma_with_expert.paligemma.lm_head.weight": (words, width),
        "model.paligemma_with_expert.paligemma.model.language_model.norm.weight": (width,),
        "model.paligemma_with_expert.gemma_expert.lm_head.weight": (words, SIZES.expert.width),
    }
    tensors = {PI0_KEYS.theirs(ours): tensor.contiguous() for ours, tensor in model.state_dict().items()}
    tensors |= {name: torch.randn(*shape, generator=generator) for name, shape in unread.items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _released_name(key: str) -> str:
    """An adapter tensor as LoRA-SP names it: its code base is older than LeRobot 0.6."""
    module, tensor = next((key.removesuffix(t), t) for t in (".router.weight", ".A", ".B") if key.endswith(t))
    *_, oldest = PI0_KEYS.every_name(PI0_KEYS.theirs(f"{module}.weight").removesuffix(".weight"))
    return oldest + tensor


def _features() -> tuple[dict[str, Any], dict[str, Any]]:
    image = {"type": "VISUAL", "shape": [3, SIZES.image_size, SIZES.image_size]}
    inputs = {
        **{f"observation.images.{camera}": image for camera in CAMERAS},
        "observation.state": {"type": "STATE", "shape": [DIMENSIONS]},
    }
    return inputs, {"action": {"type": "ACTION", "shape": [DIMENSIONS]}}


_NORMALISATION = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}


def _config() -> dict[str, Any]:
    """What LeRobot writes of a π0, without its training settings; the last five fields are sizes it hard-codes."""
    inputs, outputs = _features()
    return {
        "type": "pi0",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": outputs,
        "device": "cpu",
        "use_amp": False,
        "use_peft": False,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "float32",
        "chunk_size": SIZES.horizon,
        "n_action_steps": SIZES.horizon,
        "max_state_dim": SIZES.state_width,
        "max_action_dim": SIZES.action_width,
        "num_inference_steps": FLOW_STEPS,
        "min_period": SIZES.min_period,
        "max_period": SIZES.max_period,
        "use_relative_actions": False,
        "rtc_config": None,
        "image_resolution": [SIZES.image_size, SIZES.image_size],
        "empty_cameras": 0,
        "normalization_mapping": _NORMALISATION,
        "tokenizer_max_length": MAX_TOKENS,
        "vision_config": asdict(SIZES.vision),
        "language_config": asdict(SIZES.language),
        "expert_config": asdict(SIZES.expert),
        "vocab_size": SIZES.vocabulary,
        "patch_size": SIZES.patch_size,
    }


def _write_processors(directory: Path) -> None:
    inputs, outputs = _features()
    device = {"device": "cpu", "float_dtype": None}
    relative = {"enabled": False, "exclude_joints": ["gripper"], "action_names": None}
    tokenizing = {
        "max_length": MAX_TOKENS,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "tokenizer.json",
    }
    normalising = {"eps": 1e-8, "norm_map": _NORMALISATION}
    before: tuple[tuple[str, dict[str, Any]], ...] = (
        ("rename_observations_processor", {"rename_map": {}}),
        ("to_batch_processor", {}),
        ("pi0_new_line_processor", {}),
        ("tokenizer_processor", tokenizing),
        ("device_processor", device),
        ("relative_actions_processor", relative),
        ("normalizer_processor", {**normalising, "features": {**inputs, **outputs}}),
    )
    after: tuple[tuple[str, dict[str, Any]], ...] = (
        ("unnormalizer_processor", {**normalising, "features": outputs}),
        ("absolute_actions_processor", {"enabled": False}),
        ("device_processor", device),
    )
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after)):
        _write_pipeline(directory, name, steps)


def _write_pipeline(directory: Path, name: str, steps: Iterable[tuple[str, dict[str, Any]]]) -> None:
    entries: list[dict[str, Any]] = []
    for n, (step, config) in enumerate(steps):
        entries.append({"registry_name": step, "config": config})
        if "norm_map" in config:
            entries[-1]["state_file"] = f"{name}_step_{n}_{step}.safetensors"
            mean, std = torch.tensor(MEAN), torch.tensor(STD)
            statistics = {
                f"{key}.{what}": values.clone()
                for key in ("observation.state", "action")
                for what, values in (("mean", mean), ("std", std))
            }
            save_file(statistics, directory / entries[-1]["state_file"])
    _write_json(directory / f"{name}.json", {"name": name, "steps": entries})


def _write_tokenizer(path: Path) -> None:
    """A byte-level BPE that puts <bos> first, as PaliGemma's tokenizer does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES.vocabulary,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    tokenizer.save(str(path))


def _write_deployment(path: Path) -> None:
    space = [
        {"name": name, "unit": unit, "lower": _inside(lower), "upper": _inside(upper)}
        for name, unit, (lower, upper) in zip(NAMES, UNITS, firmware_limits(), strict=True)
    ]
    text = yaml.safe_dump({"rate": RATE, "state": space, "action": [dict(d) for d in space]}, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _inside(limit: float) -> float:
    """Three digits, rounded towards zero: no limit is written wider than it is."""
    return math.trunc(limit * 1000) / 1000


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the reference policy's checkpoint.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    def work() -> int:
        write_reference_checkpoint(arguments.directory, arguments.seed)
        print(f"wrote {arguments.directory}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
