"""Writes the SmolVLA goldens from LeRobot 0.6.1: a tiny checkpoint as LeRobot saves it, and what LeRobot computes.

How to run it is in lerobot_tiny.py. Written under ``tests/oracles/goldens/``:

- ``smolvla/``: config, weights, processors and statistics exactly as LeRobot's ``save_pretrained`` writes them, and the
  four things a deployment adds: vlm_config.json with the sizes of the vision-language model, which LeRobot's config
  only names; tokenizer.json and tokenizer_config.json; deployment.yaml;
- ``smolvla_outputs.safetensors``: a raw observation, its tensors, fixed noise; the prefix and its keys and values of
  every layer, the velocity at time 0.7, the normalised ten-step chunk, and the actions in the robot's units;
- ``smolvla_cameras.safetensors``: the same weights under other cameras and settings, see ``VARIANTS``;
- ``smolvla_full_size.json.gz``: name and shape of every tensor of the policy on SmolVLM2-500M-Video-Instruct.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lerobot_tiny as tiny
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy, make_att_2d_masks
from tokenizers import Tokenizer
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

SEED = 20_250_603
VLM = "tiny/smolvlm"
IMAGE_SIZE = 48
# 41 of 60 columns shrink to 32.8, of which LeRobot keeps the integer part.
MAIN = {"side": (48, 64), "wrist": (60, 41)}
CAMERAS = {**MAIN, "top": (20, 27)}

# cameras: as the policy declares them, in its order. observed: those in the observation, all if absent.
VARIANTS: dict[str, dict[str, Any]] = {
    "one": {"cameras": ("wrist",)},
    "three": {"cameras": ("wrist", "top", "side")},
    "absent": {"cameras": ("wrist", "top", "side"), "observed": ("wrist", "side")},
    "masked": {"cameras": ("wrist", "top", "side"), "observed": ("top", "side"), "settings": {"empty_cameras": 1}},
    "padded": {"cameras": ("side", "wrist"), "settings": {"pad_language_to": "max_length"}},
    "long_prefix": {"cameras": ("side", "wrist"), "settings": {"prefix_length": 64}},
    "special": {"cameras": ("side", "wrist"), "settings": {"add_image_special_tokens": True}},
    "special_masked": {
        "cameras": ("side", "wrist"),
        "settings": {"add_image_special_tokens": True, "empty_cameras": 1},
    },
}


def tokenizer() -> Tokenizer:
    """SmolVLM's special tokens: three before the words, the others after; nothing is put before a text."""
    trained = tiny.train_tokenizer(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], tiny.TASKS)
    trained.add_special_tokens(["<global-img>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"])
    return trained


def vlm_config(vocabulary: int) -> SmolVLMConfig:
    """Heads × head_dim differs from the width, and the policy drops the last two of six layers."""
    return SmolVLMConfig(
        scale_factor=2,
        image_token_id=vocabulary - 2,
        pad_token_id=2,
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": IMAGE_SIZE,
            "patch_size": 6,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 48,
            "intermediate_size": 72,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100_000,
            "vocab_size": vocabulary + 3,
            "pad_token_id": 2,
        },
    )


def published_vlm_config() -> SmolVLMConfig:
    """The sizes of HuggingFaceTB/SmolVLM2-500M-Video-Instruct."""
    return SmolVLMConfig(
        scale_factor=4,
        image_token_id=49_190,
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": 512,
            "patch_size": 16,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 960,
            "intermediate_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
            "head_dim": 64,
            "rms_norm_eps": 1e-5,
            "rope_theta": 100_000,
            "vocab_size": 49_280,
            "pad_token_id": 2,
        },
    )


def write_vlm(name: str, config: SmolVLMConfig, words: Tokenizer) -> None:
    """The directory in which LeRobot finds the vision-language model it names: no weights, they are the policy's."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        extra_special_tokens={
            "end_of_utterance_token": "<end_of_utterance>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "image_token": "<image>",
        },
    )
    config.save_pretrained(name)
    SmolVLMProcessor(SmolVLMImageProcessor(), wrapped, SmolVLMVideoProcessor()).save_pretrained(name)


def configure(cameras: Mapping[str, tuple[int, int]], **settings: object) -> SmolVLAConfig:
    return SmolVLAConfig(
        **tiny.features(cameras),
        **{
            "chunk_size": 11,
            "n_action_steps": 11,
            "max_state_dim": 10,
            "max_action_dim": 9,
            "resize_imgs_with_padding": (IMAGE_SIZE, IMAGE_SIZE),
            "tokenizer_max_length": 24,
            "num_vlm_layers": 4,
            "vlm_model_name": VLM,
            "load_vlm_weights": False,
            "device": "cpu",
        }
        | settings,
    )


def is_scale(name: str) -> bool:
    return name.endswith("weight")  # of layer norms and RMS norms


@torch.no_grad()
def outputs(policy: SmolVLAPolicy, pre: Any, post: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """What LeRobot computes for one observation; tensors of the model are those that `VLAFlowMatching` itself takes."""
    frames = tiny.random_frames(MAIN, generator)
    state = torch.randn(len(tiny.NAMES), generator=generator)
    batch = pre(tiny.observation(frames, state))
    images, image_masks = policy.prepare_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    padded_state = policy.prepare_state(batch)
    model = policy.model
    noise = torch.randn(1, policy.config.chunk_size, policy.config.max_action_dim, generator=generator)

    embedded, pad_mask, attention = model.embed_prefix(images, image_masks, tokens, token_mask, state=padded_state)
    _, past = model.vlm_with_expert.forward(
        attention_mask=make_att_2d_masks(pad_mask, attention),
        position_ids=torch.cumsum(pad_mask, dim=1) - 1,
        past_key_values=None,
        inputs_embeds=[embedded, None],
        use_cache=True,
    )
    return {
        **tiny.raw(frames, state),
        "images": torch.cat(images),
        "image_mask": torch.stack(image_masks, dim=1),
        "tokens": tokens,
        "token_mask": token_mask,
        "state": padded_state,
        "noise": noise,
        "image_features": torch.cat([model.vlm_with_expert.embed_image(image) for image in images]),
        "prefix": embedded,
        "prefix_mask": pad_mask,
        **tiny.cached(past),
        "velocity": model.denoise_step(pad_mask, past, noise, torch.tensor([0.7])),
        "chunk": model.sample_actions(images, image_masks, tokens, token_mask, padded_state, noise=noise),
        "actions": post(policy.predict_action_chunk(batch, noise=noise)),
    }


@torch.no_grad()
def variants(weights: dict[str, torch.Tensor], statistics: tiny.Statistics) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED + 1)
    frames = tiny.random_frames(CAMERAS, generator)
    state = torch.randn(len(tiny.NAMES), generator=generator)
    noise = torch.randn(1, 11, 9, generator=generator)
    found = {**tiny.raw(frames, state), "noise": noise}
    for name, variant in VARIANTS.items():
        config = configure({c: CAMERAS[c] for c in variant["cameras"]}, **variant.get("settings", {}))
        policy = SmolVLAPolicy(config).eval()
        policy.load_state_dict(weights)
        pre, post = make_pre_post_processors(config, dataset_stats=statistics)
        seen = {c: frames[c] for c in variant.get("observed", variant["cameras"])}
        batch = pre(tiny.observation(seen, state))
        chunk = policy.predict_action_chunk(dict(batch), noise=noise)
        found |= {
            f"{name}.tokens": batch["observation.language.tokens"],
            f"{name}.token_mask": batch["observation.language.attention_mask"],
            f"{name}.chunk": chunk,
            f"{name}.actions": post(chunk),
        }
        if config.add_image_special_tokens:
            found[f"{name}.before_image"] = policy.model.global_image_start_token
            found[f"{name}.after_image"] = policy.model.image_end_token
    return found


def write_full_size(words: Tokenizer) -> None:
    write_vlm("published/smolvlm", published_vlm_config(), words)
    config = SmolVLAConfig(**tiny.features(MAIN), vlm_model_name="published/smolvlm", device="cpu")
    config.device = "meta"
    with torch.device("meta"):
        tiny.write_shapes("smolvla_full_size.json.gz", SmolVLAPolicy(config))


def main() -> None:
    directory = tiny.GOLDENS / "smolvla"
    directory.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    write_vlm(VLM, vlm_config(words.get_vocab_size()), words)
    generator = torch.Generator().manual_seed(SEED)
    config = configure(MAIN)
    policy = SmolVLAPolicy(config).eval()
    tiny.randomise(
        policy,
        generator,
        is_scale,
        quiet=("embed_tokens", "modality_projection", "state_proj.weight", "action_time_mlp_out"),
    )
    statistics = tiny.statistics(generator)
    policy.save_pretrained(directory)
    tiny.save_processors(*make_pre_post_processors(config, dataset_stats=statistics), directory)
    shutil.copy(Path(VLM, "config.json"), directory / "vlm_config.json")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(VLM, name), directory)
    tiny.write_deployment(directory)
    pre, post = make_pre_post_processors(config, pretrained_path=str(directory))
    tiny.write_tensors("smolvla_outputs.safetensors", outputs(policy, pre, post, generator))
    tiny.write_tensors(
        "smolvla_cameras.safetensors",
        variants(policy.state_dict(), statistics),
        variants=VARIANTS,
        cameras=CAMERAS,
        task=tiny.TASK,
    )
    write_full_size(words)


if __name__ == "__main__":
    with tiny.working_directory():
        main()
