"""What LeRobot 0.3.3 and the LoRA-SP release's fork share: how to build their policies small, and how to run them.

Both keep the statistics among the weights, and both prepare an observation inside the policy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import tiny_policy as tiny
import torch
from transformers import SmolVLMConfig

SMOL_VISION = {"depth": 2, "width": 16, "mlp": 24, "heads": 2, "kv_heads": 2, "head_dim": 8}
SMOL_LANGUAGE = {"depth": 3, "width": 24, "mlp": 32, "heads": 4, "kv_heads": 2, "head_dim": 6}
SMOL_IMAGE, SMOL_PATCH, SMOL_SCALE = 48, 12, 2
SMOL_SPECIALS = ("<pad>", "<image>", "<fake_token_around_image>", "<global-img>")


def in_float32() -> Any:
    """While this is entered, what a release rounds to bfloat16 stays float32.

    The rounding would hide every difference below 1e-2; nothing else that computes is touched.
    """
    return mock.patch.object(torch, "bfloat16", torch.float32)


def small_paligemma(build: Any, vocabulary: int) -> Any:
    """``build``, a release's PaliGemmaWithExpertConfig, with small sizes in place of those it hard-codes."""

    def config(**settings: Any) -> Any:
        found = build(**settings)
        paligemma, expert = found.paligemma_config, found.gemma_expert_config
        paligemma.hidden_size = paligemma.projection_dim = tiny.LANGUAGE["width"]
        for part, size in ((paligemma.text_config, tiny.LANGUAGE), (expert, tiny.EXPERT)):
            part.hidden_size, part.intermediate_size, part.head_dim = size["width"], size["mlp"], size["head_dim"]
            part.num_hidden_layers, part.num_attention_heads = size["depth"], size["heads"]
            part.num_key_value_heads, part.vocab_size = size["kv_heads"], vocabulary
        vision = paligemma.vision_config
        vision.hidden_size, vision.intermediate_size = tiny.VISION["width"], tiny.VISION["mlp"]
        vision.num_hidden_layers, vision.num_attention_heads = tiny.VISION["depth"], tiny.VISION["heads"]
        vision.image_size, vision.patch_size = tiny.IMAGE_SIZE, tiny.PATCH_SIZE
        vision.projection_dim = tiny.LANGUAGE["width"]
        return found

    return config


def small_smolvlm(vocabulary: int) -> SmolVLMConfig:
    """The configuration that a release would load from the hub; its language model has a layer that is cut off."""
    size, vision = SMOL_LANGUAGE, SMOL_VISION
    return SmolVLMConfig(
        scale_factor=SMOL_SCALE,
        pad_token_id=0,
        image_token_id=1,
        text_config={
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": size["width"],
            "intermediate_size": size["mlp"],
            "num_hidden_layers": size["depth"],
            "num_attention_heads": size["heads"],
            "num_key_value_heads": size["kv_heads"],
            "head_dim": size["head_dim"],
            "pad_token_id": 0,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100_000,
        },
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": vision["mlp"],
            "num_hidden_layers": vision["depth"],
            "num_attention_heads": vision["heads"],
            "image_size": SMOL_IMAGE,
            "patch_size": SMOL_PATCH,
        },
    )


def write_vlm(directory: Path, vlm: SmolVLMConfig) -> None:
    """The config.json of the vision-language model, which the policy's own config only names."""
    (directory / "vlm_config.json").write_text(json.dumps(vlm.to_dict(), indent=2) + "\n")


@torch.no_grad()
def outputs(policy: Any, task: str, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """What the release computes for one observation, through its own preparation and un-normalisation."""
    frames, raw_state = tiny.observation(generator)
    batch = {f"observation.images.{c}": f[None].float() / 255.0 for c, f in frames.items()}
    batch |= {"observation.state": raw_state[None], "task": [task]}
    noise = torch.randn(1, tiny.HORIZON, policy.config.max_action_dim, generator=generator)
    normalised = policy.normalize_inputs(batch)
    images, image_masks = policy.prepare_images(normalised)
    tokens, token_mask = policy.prepare_language(normalised)
    state = policy.prepare_state(normalised)
    chunk = policy.model.sample_actions(images, image_masks, tokens, token_mask, state, noise=noise.clone())
    policy.reset()
    actions = torch.stack([policy.select_action(dict(batch), noise=noise.clone()) for _ in range(tiny.HORIZON)], dim=1)
    return tiny.tensors(
        frames,
        raw_state,
        images=torch.cat(images),
        image_mask=torch.stack(image_masks, dim=1),
        tokens=tokens,
        token_mask=token_mask,
        state=state,
        noise=noise,
        chunk=chunk,
        actions=actions,
    )
