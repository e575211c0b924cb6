"""LeRobot 0.6's tiny policies as the other layouts would hold them: the same weights, elsewhere, by other names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.vla_export.checkpoints.golden_policies import change_deployment

SINCE_0_5_1 = ("use_relative_actions", "relative_exclude_joints", "action_feature_names", "pretrained_revision")
VLM = "paligemma_with_expert.paligemma"
EMBEDDING, HEAD = f"model.{VLM}.model.language_model.embed_tokens.weight", f"model.{VLM}.lm_head.weight"
STATE, ACTION = "observation.state", "action"


def as_lerobot_0_4(checkpoint: Path) -> None:
    """Fields that came later are gone, and the embedding is tied to the head, of which one is stored."""
    config = {name: value for name, value in _config(checkpoint).items() if name not in SINCE_0_5_1}
    if config["type"] == "pi05":  # which has no tensor of that width
        config["max_state_dim"] = 32
    _write(checkpoint, config)
    tensors = _tensors(checkpoint)
    if EMBEDDING in tensors:
        tensors[HEAD] = tensors.pop(EMBEDDING)
    save_file(tensors, checkpoint / "model.safetensors")


def as_lerobot_0_3(checkpoint: Path) -> None:
    """Statistics among the weights, no processors; π0's configuration has other fields."""
    config, statistics = _config(checkpoint), _take_statistics(checkpoint)
    if config["type"] == "pi0":
        for newer in (
            *SINCE_0_5_1,
            *("paligemma_variant", "action_expert_variant", "dtype", "rtc_config", "use_peft", "pretrained_path"),
            *("gradient_checkpointing", "compile_model", "compile_mode", "optimizer_grad_clip_norm"),
            *(f"time_sampling_{name}" for name in ("beta_alpha", "beta_beta", "scale", "offset")),
            *("min_period", "max_period"),
        ):
            del config[newer]
        config |= {
            "resize_imgs_with_padding": config.pop("image_resolution"),
            "num_steps": config.pop("num_inference_steps"),
            "proj_width": config["expert_config"]["width"],
            "adapt_to_pi_aloha": False,
            "use_delta_joint_actions_aloha": False,
            "use_cache": True,
            "attention_implementation": "eager",
            "train_state_proj": True,
        }
    _write(checkpoint, config)
    buffers = {
        f"{module}.buffer_{feature.replace('.', '_')}.{name}": statistics[f"{feature}.{name}"].clone()
        for module, feature in (
            ("normalize_inputs", STATE),
            ("normalize_targets", ACTION),
            ("unnormalize_outputs", ACTION),
        )
        for name in ("mean", "std")
    }
    save_file(_tensors(checkpoint) | buffers, checkpoint / "model.safetensors")


def as_lora_sp(checkpoint: Path) -> None:
    """LeRobot 0.3's with the oldest names: the language model nested the other way round."""
    as_lerobot_0_3(checkpoint)
    config = _config(checkpoint)
    for hub in ("push_to_hub", "repo_id", "private", "tags", "license"):
        config.pop(hub)
    _write(checkpoint, config | {"is_training": True})
    oldest = (
        (f"{VLM}.model.language_model.", f"{VLM}.language_model.model."),
        (f"{VLM}.lm_head.", f"{VLM}.language_model.lm_head."),
        (f"{VLM}.model.vision_tower.", f"{VLM}.vision_tower."),
        (f"{VLM}.model.multi_modal_projector.", f"{VLM}.multi_modal_projector."),
    )
    tensors = {}
    for name, tensor in _tensors(checkpoint).items():
        for new, old in oldest:
            name = name.replace(new, old)
        tensors[name] = tensor
    save_file(tensors, checkpoint / "model.safetensors")


def as_openpi(checkpoint: Path) -> None:
    """Five fields and the sizes; names without ``model.``; statistics in assets. State and action are equally wide."""
    config, statistics = _config(checkpoint), _take_statistics(checkpoint)
    sizes = ("vision_config", "language_config", "expert_config", "vocab_size", "patch_size")
    _write(
        checkpoint,
        {
            "action_dim": config["max_action_dim"],
            "action_horizon": config["chunk_size"],
            "paligemma_variant": config["paligemma_variant"],
            "action_expert_variant": config["action_expert_variant"],
            "precision": "float32",
            **{name: config[name] for name in sizes},
            "image_size": config["image_resolution"][0],
        },
    )
    spaces = {
        space: {
            name: statistics[f"{feature}.{name}"].tolist()
            for name in ("mean", "std", "q01", "q99")
            if f"{feature}.{name}" in statistics
        }
        for space, feature in (("state", STATE), ("actions", ACTION))
    }
    (checkpoint / "assets" / "tiny").mkdir(parents=True)
    (checkpoint / "assets" / "tiny" / "norm_stats.json").write_text(json.dumps({"norm_stats": spaces}))
    tensors = {name.removeprefix("model."): tensor for name, tensor in _tensors(checkpoint).items()}
    if "state_proj.weight" in tensors:  # the tiny π0's state is one wider than its action, which openpi's never is
        tensors["state_proj.weight"] = tensors["state_proj.weight"][:, : config["max_action_dim"]].contiguous()
    save_file(tensors, checkpoint / "model.safetensors")
    change_deployment(
        checkpoint,
        cameras={"base_0_rgb": "side", "left_wrist_0_rgb": "wrist"},
        missing_cameras=["right_wrist_0_rgb"],
        relative_actions=[],
    )


def in_shards(checkpoint: Path, count: int = 3) -> None:
    """The weights as transformers and huggingface_hub shard them."""
    tensors = _tensors(checkpoint)
    (checkpoint / "model.safetensors").unlink()
    names = [f"model-{n + 1:05d}-of-{count:05d}.safetensors" for n in range(count)]
    where = {name: names[n % count] for n, name in enumerate(sorted(tensors))}
    for shard in names:
        save_file({n: t for n, t in tensors.items() if where[n] == shard}, checkpoint / shard)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))


def _take_statistics(checkpoint: Path) -> dict[str, Tensor]:
    """All that the processors hold, which are then gone."""
    found: dict[str, Tensor] = {}
    for path in sorted(checkpoint.glob("policy_*processor*")):
        if path.suffix == ".safetensors":
            found |= load_file(path)
        path.unlink()
    return found


def _config(checkpoint: Path) -> dict[str, Any]:
    return dict(json.loads((checkpoint / "config.json").read_text()))


def _write(checkpoint: Path, config: dict[str, Any]) -> None:
    (checkpoint / "config.json").write_text(json.dumps(config))


def _tensors(checkpoint: Path) -> dict[str, Tensor]:
    return dict(load_file(checkpoint / "model.safetensors"))
