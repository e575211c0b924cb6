"""What π0 and π0.5 share: small sizes in place of those that LeRobot hard-codes, the prefix, other cameras."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import lerobot_tiny as tiny
import torch
from lerobot.policies.common.vla_utils import make_att_2d_masks, prepare_attention_masks_4d
from lerobot.policies.factory import make_pre_post_processors

TOKENIZER = "google/paligemma-3b-pt-224"  # LeRobot asks for it by this name
IMAGE_SIZE = 42
PATCH_SIZE = 14

# cameras: as the policy declares them, in its order. observed: those in the observation, all if absent.
VARIANTS: dict[str, dict[str, Any]] = {
    "one": {"cameras": ("wrist",)},
    "three": {"cameras": ("wrist", "top", "side")},
    "absent": {"cameras": ("wrist", "top", "side"), "observed": ("wrist", "side")},
    "masked": {"cameras": ("wrist", "side"), "settings": {"empty_cameras": 1}},
}


@dataclass(frozen=True)
class Sizes:
    """depth, width, mlp, heads, kv_heads and head_dim of each stack."""

    vision: dict[str, int]
    language: dict[str, int]
    expert: dict[str, int]


@contextlib.contextmanager
def tiny_sizes(modeling: ModuleType, sizes: Sizes, vocabulary: int) -> Iterator[None]:
    """Policies of LeRobot's module ``modeling`` built inside are of these sizes."""
    variants = {"gemma_2b": sizes.language, "gemma_300m": sizes.expert}

    def gemma_config(variant: str) -> Any:
        s = variants[variant]
        return modeling.GemmaConfig(s["width"], s["depth"], s["mlp"], s["heads"], s["kv_heads"], s["head_dim"])

    build_vlm = modeling.PaliGemmaForConditionalGenerationWithPiGemma
    build_expert = modeling.PiGemmaForCausalLM

    def small_vlm(config: Any) -> torch.nn.Module:
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = sizes.vision["width"], sizes.vision["mlp"]
        vision.num_hidden_layers, vision.num_attention_heads = sizes.vision["depth"], sizes.vision["heads"]
        vision.patch_size, vision.projection_dim = PATCH_SIZE, sizes.language["width"]
        config.projection_dim = config.hidden_size = sizes.language["width"]
        config.text_config.vocab_size = vocabulary
        return build_vlm(config=config)

    def small_expert(config: Any) -> torch.nn.Module:
        config.vocab_size = vocabulary
        return build_expert(config=config)

    with (
        mock.patch.object(modeling, "get_gemma_config", gemma_config),
        mock.patch.object(modeling, "PaliGemmaForConditionalGenerationWithPiGemma", small_vlm),
        mock.patch.object(modeling, "PiGemmaForCausalLM", small_expert),
    ):
        yield


def is_scale(name: str) -> bool:
    """SigLIP's layer norms multiply by their weight, Gemma's RMS norms by one more than it."""
    return name.endswith("weight") and "vision_tower" in name


def write_sizes(directory: Path, sizes: Sizes, vocabulary: int) -> None:
    tiny.change_config(
        directory,
        vision_config=sizes.vision,
        language_config=sizes.language,
        expert_config=sizes.expert,
        vocab_size=vocabulary,
        patch_size=PATCH_SIZE,
    )


def prefill(model: Any, embedded: torch.Tensor, pad_mask: torch.Tensor, attention: torch.Tensor) -> Any:
    """The language model over the prefix, as `sample_actions` runs it: its cache."""
    model.paligemma_with_expert.paligemma.model.language_model.config._attn_implementation = "eager"
    _, past = model.paligemma_with_expert.forward(
        attention_mask=prepare_attention_masks_4d(make_att_2d_masks(pad_mask, attention)),
        position_ids=torch.cumsum(pad_mask, dim=1) - 1,
        past_key_values=None,
        inputs_embeds=[embedded, None],
        use_cache=True,
    )
    return past


@torch.no_grad()
def write_variants(
    file: str,
    configure: Callable[..., Any],
    policy: Any,
    statistics: tiny.Statistics,
    cameras: Mapping[str, tuple[int, int]],
    state: torch.Tensor,
) -> None:
    """``VARIANTS`` of a policy: tokens, normalised chunk and actions of each, from one raw observation and noise."""
    generator = torch.Generator().manual_seed(1)
    frames = tiny.random_frames(cameras, generator)
    noise = torch.randn(1, policy.config.chunk_size, policy.config.max_action_dim, generator=generator)
    found = {**tiny.raw(frames, state), "noise": noise}
    for name, variant in VARIANTS.items():
        config = configure({c: cameras[c] for c in variant["cameras"]}, **variant.get("settings", {}))
        other = type(policy)(config).eval()
        other.load_state_dict(policy.state_dict())
        pre, post = make_pre_post_processors(config, dataset_stats=statistics)
        seen = {c: frames[c] for c in variant.get("observed", variant["cameras"])}
        batch = pre(tiny.observation(seen, state))
        chunk = other.predict_action_chunk(batch, noise=noise)
        found |= {
            f"{name}.tokens": batch["observation.language.tokens"],
            f"{name}.token_mask": batch["observation.language.attention_mask"],
            f"{name}.chunk": chunk,
            f"{name}.actions": post(chunk),
        }
    tiny.write_tensors(file, found, variants=VARIANTS, cameras=cameras, task=tiny.TASK)
