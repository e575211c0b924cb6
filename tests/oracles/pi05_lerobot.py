"""Writes the π0.5 goldens from LeRobot 0.6.1: a tiny checkpoint as LeRobot saves it, and what LeRobot computes with it.

How to run it is in lerobot_tiny.py. Written under ``tests/oracles/goldens/``:

- ``pi05/``: config, weights, processors and statistics exactly as LeRobot's ``save_pretrained`` writes them, and the
  three things a deployment adds: the sizes in config.json, tokenizer.json with tokenizer_config.json, deployment.yaml;
- ``pi05_outputs.safetensors``: a raw observation, its tensors, fixed noise; the prefix and its keys and values of
  every layer, the velocity at time 0.7, the normalised ten-step chunk, and the actions in the robot's units;
- ``pi05_cameras.safetensors``: the same weights under other cameras, see lerobot_gemma.py;
- ``pi05_full_size.json.gz``: name and shape of every tensor of the full-size policy.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lerobot_gemma as gemma
import lerobot_tiny as tiny
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.modeling_pi05 import PI05Policy

SEED = 20_250_904
SIZES = gemma.Sizes(
    vision={"depth": 2, "width": 24, "mlp": 40, "heads": 3, "kv_heads": 3, "head_dim": 8},
    language={"depth": 4, "width": 40, "mlp": 64, "heads": 6, "kv_heads": 2, "head_dim": 8},
    expert={"depth": 4, "width": 24, "mlp": 56, "heads": 6, "kv_heads": 2, "head_dim": 8},
)
# 41 of 60 columns shrink to 28.7, of which LeRobot keeps the integer part.
MAIN = {"side": (48, 64), "wrist": (60, 41)}
CAMERAS = {**MAIN, "top": (20, 27)}
PROMPTS = [f"Task: {task}, State: -1 0 17 128 200 255;\nAction: " for task in tiny.TASKS]


def configure(cameras: Mapping[str, tuple[int, int]], **settings: object) -> PI05Config:
    return PI05Config(
        **tiny.features(cameras),
        **{
            "chunk_size": 11,
            "n_action_steps": 11,
            "max_state_dim": 10,
            "max_action_dim": 9,
            "image_resolution": (gemma.IMAGE_SIZE, gemma.IMAGE_SIZE),
            "tokenizer_max_length": 72,
            "device": "cpu",
        }
        | settings,
    )


def random_state(statistics: tiny.Statistics, generator: torch.Generator) -> torch.Tensor:
    """One number below its first percentile, one above its 99th, the others between."""
    s = statistics["observation.state"]
    share = torch.linspace(-0.1, 1.1, len(tiny.NAMES))[torch.randperm(len(tiny.NAMES), generator=generator)]
    share += 0.05 * torch.rand(len(tiny.NAMES), generator=generator)
    return s["q01"] + share * (s["q99"] - s["q01"])


@torch.no_grad()
def outputs(
    policy: PI05Policy, pre: Any, post: Any, state: torch.Tensor, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """What LeRobot computes for one observation; tensors of the model are those that `PI05Pytorch` itself takes."""
    frames = tiny.random_frames(MAIN, generator)
    batch = pre(tiny.observation(frames, state))
    images, image_masks = policy._preprocess_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    model = policy.model
    noise = torch.randn(1, policy.config.chunk_size, policy.config.max_action_dim, generator=generator)

    embedded, pad_mask, attention = model.embed_prefix(images, image_masks, tokens, token_mask)
    past = gemma.prefill(model, embedded, pad_mask, attention)
    time = torch.tensor([0.7])
    return {
        **tiny.raw(frames, state),
        "images": torch.cat(images),
        "image_mask": torch.stack(image_masks, dim=1),
        "prompt": torch.tensor(list(batch["task"][0].encode()), dtype=torch.uint8),
        "tokens": tokens,
        "token_mask": token_mask,
        "normalised_state": batch["observation.state"],
        "noise": noise,
        "prefix": embedded,
        "prefix_mask": pad_mask,
        **tiny.cached(past),
        "conditioning": model.embed_suffix(noise, time)[3],
        "velocity": model.denoise_step(pad_mask, past, noise, time),
        "chunk": model.sample_actions(images, image_masks, tokens, token_mask, noise=noise),
        "actions": post(policy.predict_action_chunk(batch, noise=noise)),
    }


def main() -> None:
    directory = tiny.GOLDENS / "pi05"
    directory.mkdir(parents=True, exist_ok=True)
    words = tiny.gemma_tokenizer(PROMPTS)
    tiny.as_paligemma(words)
    vocabulary = words.get_vocab_size()
    generator = torch.Generator().manual_seed(SEED)
    config = configure(MAIN)
    with gemma.tiny_sizes(modeling_pi05, SIZES, vocabulary):
        policy = PI05Policy(config).eval()
        tiny.randomise(policy, generator, gemma.is_scale, quiet=("embed_tokens", "projector.linear", "action_in_proj"))
        statistics = tiny.statistics(generator)
        policy.save_pretrained(directory)
        tiny.save_processors(*make_pre_post_processors(config, dataset_stats=statistics), directory)
        gemma.write_sizes(directory, SIZES, vocabulary)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(Path(gemma.TOKENIZER, name), directory)
        tiny.write_deployment(directory)
        pre, post = make_pre_post_processors(config, pretrained_path=str(directory))
        state = random_state(statistics, generator)
        tiny.write_tensors("pi05_outputs.safetensors", outputs(policy, pre, post, state, generator))
        state = random_state(statistics, generator)
        gemma.write_variants("pi05_cameras.safetensors", configure, policy, statistics, CAMERAS, state)
    config = PI05Config(**tiny.features(MAIN), device="cpu")
    config.device = "meta"
    with torch.device("meta"):
        tiny.write_shapes("pi05_full_size.json.gz", PI05Policy(config))


if __name__ == "__main__":
    with tiny.working_directory():
        main()
