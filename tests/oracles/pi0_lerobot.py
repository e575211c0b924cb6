"""Writes the π0 goldens from LeRobot 0.6.1: a tiny checkpoint as LeRobot saves it, and what LeRobot computes with it.

LeRobot needs its own Python 3.12 environment; it runs offline, on the CPU, in under a minute:

    python3.12 -m venv lerobot-env && lerobot-env/bin/pip install "torch<2.12" --index-url https://download.pytorch.org/whl/cpu
    lerobot-env/bin/pip install "lerobot[pi]==0.6.1"
    lerobot-env/bin/python tests/oracles/pi0_lerobot.py

Written under ``tests/oracles/goldens/``:

- ``pi0/``: config, weights, processors and statistics exactly as LeRobot's ``save_pretrained`` writes them, and the
  three things a deployment adds: the sizes in config.json, tokenizer.json, deployment.yaml;
- ``pi0_outputs.safetensors``: an observation, its tensors, fixed noise; the prefix's keys and values of every layer,
  the velocity at time 0.7, the normalised ten-step chunk, and the actions in the robot's units;
- ``pi0_full_size.json.gz``: name and shape of every tensor of the full-size policy.

LeRobot hard-codes the sizes of Gemma and SigLIP, so they are replaced here before the policy is built; nothing that
computes is touched. Every parameter is random, norms and biases included, so that none is accidentally neutral.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.modeling_pi0 import PI0Policy
from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
from lerobot.processor import tokenizer_processor
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

GOLDENS = Path(__file__).parent / "goldens"
SEED = 20_240_917

VISION = {"depth": 2, "width": 32, "mlp": 48, "heads": 2, "kv_heads": 2, "head_dim": 16}
LANGUAGE = {"depth": 4, "width": 40, "mlp": 64, "heads": 8, "kv_heads": 1, "head_dim": 8}
EXPERT = {"depth": 4, "width": 24, "mlp": 56, "heads": 8, "kv_heads": 1, "head_dim": 8}
IMAGE_SIZE = 42
PATCH_SIZE = 14
NAMES = [*(f"joint{n}" for n in range(1, 7)), "gripper"]
TASK = "put the red cube on the table"
CORPUS = ["put the red cube on the table", "pick up the green cube", "push the blue cube to the left"]


def write_tokenizer(path: Path) -> Tokenizer:
    """A byte-level BPE with Gemma's special tokens, which prepends <bos> as PaliGemma's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<pad>", "<eos>", "<bos>", "<unk>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    tokenizer.save(str(path))
    return tokenizer


def build_policy(config: PI0Config, vocabulary: int) -> PI0Policy:
    """LeRobot's policy with small sizes in place of those it hard-codes."""
    sizes = {"gemma_2b": LANGUAGE, "gemma_300m": EXPERT}

    def gemma_config(variant: str) -> modeling_pi0.GemmaConfig:
        s = sizes[variant]
        return modeling_pi0.GemmaConfig(s["width"], s["depth"], s["mlp"], s["heads"], s["kv_heads"], s["head_dim"])

    build_vlm = modeling_pi0.PaliGemmaForConditionalGenerationWithPiGemma
    build_expert = modeling_pi0.PiGemmaForCausalLM

    def small_vlm(config: Any) -> torch.nn.Module:
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = VISION["width"], VISION["mlp"]
        vision.num_hidden_layers, vision.num_attention_heads = VISION["depth"], VISION["heads"]
        vision.patch_size, vision.projection_dim = PATCH_SIZE, LANGUAGE["width"]
        config.projection_dim = config.hidden_size = LANGUAGE["width"]
        config.text_config.vocab_size = vocabulary
        return build_vlm(config=config)

    def small_expert(config: Any) -> torch.nn.Module:
        config.vocab_size = vocabulary
        return build_expert(config=config)

    with (
        mock.patch.object(modeling_pi0, "get_gemma_config", gemma_config),
        mock.patch.object(modeling_pi0, "PaliGemmaForConditionalGenerationWithPiGemma", small_vlm),
        mock.patch.object(modeling_pi0, "PiGemmaForCausalLM", small_expert),
    ):
        return PI0Policy(config).eval()


def randomise(policy: PI0Policy, generator: torch.Generator) -> None:
    """Weights of variance 1 / fan-in, norms and biases around their neutral value."""
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                is_layer_norm = name.endswith("weight") and "vision_tower" in name
                parameter.copy_(0.2 * noise + float(is_layer_norm))
            elif "vision_tower.vision_model.embeddings" in name:  # so small that the norms' epsilon shows
                parameter.copy_(0.05 * noise if "position" in name else 0.003 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.3 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def statistics(generator: torch.Generator) -> dict[str, dict[str, torch.Tensor]]:
    def random(n: int) -> dict[str, torch.Tensor]:
        return {
            "mean": torch.randn(n, generator=generator),
            "std": torch.rand(n, generator=generator) + 0.1,
        }

    return {"observation.state": random(len(NAMES)), "action": random(len(NAMES))}


def write_checkpoint(policy: PI0Policy, pre: Any, post: Any, vocabulary: int, directory: Path) -> None:
    policy.save_pretrained(directory)
    pre.save_pretrained(directory)
    post.save_pretrained(directory)
    config = json.loads((directory / "config.json").read_text())
    config |= {
        "vision_config": VISION,
        "language_config": LANGUAGE,
        "expert_config": EXPERT,
        "vocab_size": vocabulary,
        "patch_size": PATCH_SIZE,
    }
    (directory / "config.json").write_text(json.dumps(config, indent=4) + "\n")
    units = ["rad"] * 6 + ["m"]
    space = [{"name": n, "unit": u, "lower": -3.2, "upper": 3.2} for n, u in zip(NAMES, units, strict=True)]
    (directory / "deployment.yaml").write_text(yaml.safe_dump({"rate": 10, "state": space, "action": space}))


@torch.no_grad()
def outputs(policy: PI0Policy, pre: Any, post: Any, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """What LeRobot computes for one observation; tensors of the model are those that `PI0Pytorch` itself takes."""
    frames = {c: torch.randint(0, 256, (3, 48, 64), generator=generator, dtype=torch.uint8) for c in ("side", "wrist")}
    state = torch.randn(len(NAMES), generator=generator)
    observation = {f"observation.images.{c}": f.float() / 255.0 for c, f in frames.items()}
    batch = pre({**observation, "observation.state": state, "task": TASK})
    images, image_masks = policy._preprocess_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    padded_state = policy.prepare_state(batch)
    model = policy.model
    noise = torch.randn(1, policy.config.chunk_size, policy.config.max_action_dim, generator=generator)

    embedded, pad_mask, attention = model.embed_prefix(images, image_masks, tokens, token_mask)
    visible = modeling_pi0.prepare_attention_masks_4d(modeling_pi0.make_att_2d_masks(pad_mask, attention))
    model.paligemma_with_expert.paligemma.model.language_model.config._attn_implementation = "eager"
    _, past = model.paligemma_with_expert.forward(
        attention_mask=visible,
        position_ids=torch.cumsum(pad_mask, dim=1) - 1,
        past_key_values=None,
        inputs_embeds=[embedded, None],
        use_cache=True,
    )
    velocity = model.denoise_step(padded_state, pad_mask, past, noise, torch.tensor([0.7]))
    chunk = model.sample_actions(images, image_masks, tokens, token_mask, padded_state, noise=noise)
    actions = post(policy.predict_action_chunk(batch, noise=noise))

    found = {
        **{f"frame.{c}": f.permute(1, 2, 0).contiguous() for c, f in frames.items()},
        "raw_state": state,
        "images": torch.cat(images),
        "image_mask": torch.stack(image_masks, dim=1),
        "tokens": tokens,
        "token_mask": token_mask,
        "state": padded_state,
        "noise": noise,
        "prefix_mask": pad_mask,
        "velocity": velocity,
        "chunk": chunk,
        "actions": actions,
    }
    for n, (key, value, *_) in enumerate(past):
        found[f"key_{n:02d}"], found[f"value_{n:02d}"] = key, value
    return {name: tensor.contiguous() for name, tensor in found.items()}


def features() -> dict[str, dict[str, PolicyFeature]]:
    image = PolicyFeature(FeatureType.VISUAL, (3, 48, 64))
    return {
        "input_features": {
            "observation.images.side": image,
            "observation.images.wrist": image,
            "observation.state": PolicyFeature(FeatureType.STATE, (len(NAMES),)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (len(NAMES),))},
    }


def write_full_size(path: Path) -> None:
    config = PI0Config(**features(), device="cpu")
    config.device = "meta"
    with torch.device("meta"):
        policy = PI0Policy(config)
    shapes = {name: list(tensor.shape) for name, tensor in policy.state_dict().items()}
    path.write_bytes(gzip.compress(json.dumps(shapes).encode(), mtime=0))


def main() -> None:
    directory = GOLDENS / "pi0"
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(directory / "tokenizer.json")
    as_lerobot_loads_it = PreTrainedTokenizerFast(
        tokenizer_file=str(directory / "tokenizer.json"), pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    generator = torch.Generator().manual_seed(SEED)
    config = PI0Config(
        **features(),
        chunk_size=11,
        n_action_steps=11,
        max_state_dim=10,
        max_action_dim=9,
        image_resolution=(IMAGE_SIZE, IMAGE_SIZE),
        empty_cameras=1,
        tokenizer_max_length=24,
        device="cpu",
    )
    policy = build_policy(config, tokenizer.get_vocab_size())
    randomise(policy, generator)
    with mock.patch.object(tokenizer_processor.AutoTokenizer, "from_pretrained", return_value=as_lerobot_loads_it):
        pre, post = make_pi0_pre_post_processors(config, statistics(generator))
    write_checkpoint(policy, pre, post, tokenizer.get_vocab_size(), directory)
    save_file(outputs(policy, pre, post, generator), GOLDENS / "pi0_outputs.safetensors")
    write_full_size(GOLDENS / "pi0_full_size.json.gz")


if __name__ == "__main__":
    main()
