"""Writes the π0 goldens from LeRobot 0.6.1: a tiny checkpoint as LeRobot saves it, and what LeRobot computes with it.

How to run it is in lerobot_tiny.py. Written under ``tests/oracles/goldens/``:

- ``pi0/``: config, weights, processors and statistics exactly as LeRobot's ``save_pretrained`` writes them, and the
  three things a deployment adds: the sizes in config.json, tokenizer.json, deployment.yaml;
- ``pi0_outputs.safetensors``: a raw observation, its tensors, fixed noise; the prefix's keys and values of every layer,
  the velocity at time 0.7, the normalised ten-step chunk, and the actions in the robot's units;
- ``pi0_cameras.safetensors``: the same weights under other cameras, see lerobot_gemma.py;
- ``pi0_full_size.json.gz``: name and shape of every tensor of the full-size policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lerobot_gemma as gemma
import lerobot_tiny as tiny
import torch
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.modeling_pi0 import PI0Policy

SEED = 20_240_917
SIZES = gemma.Sizes(
    vision={"depth": 2, "width": 32, "mlp": 48, "heads": 2, "kv_heads": 2, "head_dim": 16},
    language={"depth": 4, "width": 40, "mlp": 64, "heads": 8, "kv_heads": 1, "head_dim": 8},
    expert={"depth": 4, "width": 24, "mlp": 56, "heads": 8, "kv_heads": 1, "head_dim": 8},
)
MAIN = {"side": (48, 64), "wrist": (48, 64)}
CAMERAS = {"side": (48, 64), "wrist": (60, 41), "top": (20, 27)}


def configure(cameras: Mapping[str, tuple[int, int]], **settings: object) -> PI0Config:
    return PI0Config(
        **tiny.features(cameras),
        **{
            "chunk_size": 11,
            "n_action_steps": 11,
            "max_state_dim": 10,
            "max_action_dim": 9,
            "image_resolution": (gemma.IMAGE_SIZE, gemma.IMAGE_SIZE),
            "tokenizer_max_length": 24,
            "device": "cpu",
        }
        | settings,
    )


def mean_and_std(generator: torch.Generator) -> tiny.Statistics:
    def random(n: int) -> dict[str, torch.Tensor]:
        return {
            "mean": torch.randn(n, generator=generator),
            "std": torch.rand(n, generator=generator) + 0.1,
        }

    return {"observation.state": random(len(tiny.NAMES)), "action": random(len(tiny.NAMES))}


@torch.no_grad()
def outputs(policy: PI0Policy, pre: Any, post: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """What LeRobot computes for one observation; tensors of the model are those that `PI0Pytorch` itself takes."""
    frames = tiny.random_frames(MAIN, generator)
    state = torch.randn(len(tiny.NAMES), generator=generator)
    batch = pre(tiny.observation(frames, state))
    images, image_masks = policy._preprocess_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    padded_state = policy.prepare_state(batch)
    model = policy.model
    noise = torch.randn(1, policy.config.chunk_size, policy.config.max_action_dim, generator=generator)

    embedded, pad_mask, attention = model.embed_prefix(images, image_masks, tokens, token_mask)
    past = gemma.prefill(model, embedded, pad_mask, attention)
    return {
        **tiny.raw(frames, state),
        "images": torch.cat(images),
        "image_mask": torch.stack(image_masks, dim=1),
        "tokens": tokens,
        "token_mask": token_mask,
        "state": padded_state,
        "noise": noise,
        "prefix_mask": pad_mask,
        "velocity": model.denoise_step(padded_state, pad_mask, past, noise, torch.tensor([0.7])),
        "chunk": model.sample_actions(images, image_masks, tokens, token_mask, padded_state, noise=noise),
        "actions": post(policy.predict_action_chunk(batch, noise=noise)),
        **tiny.cached(past),
    }


def main() -> None:
    directory = tiny.GOLDENS / "pi0"
    directory.mkdir(parents=True, exist_ok=True)
    words = tiny.gemma_tokenizer(tiny.TASKS)
    tiny.as_paligemma(words)
    vocabulary = words.get_vocab_size()
    generator = torch.Generator().manual_seed(SEED)
    config = configure(MAIN, empty_cameras=1)
    with gemma.tiny_sizes(modeling_pi0, SIZES, vocabulary):
        policy = PI0Policy(config).eval()
        tiny.randomise(policy, generator, gemma.is_scale)
        statistics = mean_and_std(generator)
        policy.save_pretrained(directory)
        tiny.save_processors(*make_pre_post_processors(config, dataset_stats=statistics), directory)
        gemma.write_sizes(directory, SIZES, vocabulary)
        words.save(str(directory / "tokenizer.json"))
        tiny.write_deployment(directory)
        pre, post = make_pre_post_processors(config, pretrained_path=str(directory))
        tiny.write_tensors("pi0_outputs.safetensors", outputs(policy, pre, post, generator))
        state = torch.randn(len(tiny.NAMES), generator=generator)
        gemma.write_variants("pi0_cameras.safetensors", configure, policy, statistics, CAMERAS, state)
    config = PI0Config(**tiny.features(MAIN), device="cpu")
    config.device = "meta"
    with torch.device("meta"):
        tiny.write_shapes("pi0_full_size.json.gz", PI0Policy(config))


if __name__ == "__main__":
    with tiny.working_directory():
        main()
