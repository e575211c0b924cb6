"""Writes goldens from LeRobot 0.4.4: tiny π0, π0.5 and SmolVLA checkpoints as it saves them, and what it computes.

It needs an environment of its own, runs offline and on the CPU in under a minute:

    python3.12 -m venv mid-env && mid-env/bin/pip install "lerobot[smolvla]==0.4.4" "transformers==4.53.2"
    mid-env/bin/python tests/oracles/lerobot_0_4.py

π0 and π0.5 of this release refuse to run without a transformers that has adaptive norms, and its wheel does not say
which: they were run with a 4.53.2 that has what they import and call.

Written under ``tests/oracles/goldens/layouts/lerobot_0_4_pi0``, ``…_pi05`` and ``…_smolvla``: config, weights,
processors and statistics as ``save_pretrained`` writes them; what a deployment adds (sizes in config.json or
vlm_config.json, the tokenizer's two files, deployment.yaml); and ``outputs.safetensors``: a raw observation with fixed
noise, what is prepared of it, and the actions in the robot's units. Sizes are replaced before the policies are built;
nothing that computes is touched.

transformers 4.55 to 4.57, which LeRobot 0.4.3 and 0.4.4 ask for, compute a SmolVLA's vision otherwise: in float32
every row and column of patches but the first takes the position embedding of the one before it. Run once more with
an unchanged ``transformers==4.57.1``, the script adds SmolVLA's ``outputs_shifted.safetensors``: chunk
and actions for the same observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import lerobot_with_buffers as small
import tiny_policy as tiny
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.pi0.processor_pi0 import make_pi0_pre_post_processors
from lerobot.policies.pi05 import modeling_pi05
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from lerobot.policies.pi05.processor_pi05 import make_pi05_pre_post_processors
from lerobot.policies.smolvla import modeling_smolvla, smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from lerobot.processor import tokenizer_processor
from packaging.version import Version
from safetensors.torch import save_file
from transformers import __version__ as transformers_version

LAYOUTS = Path(__file__).parent / "goldens" / "layouts"
TASK = " put the red_cube on the table"
IS_SHIFTED = Version("4.55") <= Version(transformers_version) < Version("5")
PI_SIZES = {
    "vision_config": tiny.VISION,
    "language_config": tiny.LANGUAGE,
    "expert_config": tiny.EXPERT,
    "patch_size": tiny.PATCH_SIZE,
}


def features() -> dict[str, dict[str, PolicyFeature]]:
    image = PolicyFeature(FeatureType.VISUAL, (3, 48, 64))
    return {
        "input_features": {
            "observation.images.side": image,
            "observation.images.wrist": image,
            "observation.state": PolicyFeature(FeatureType.STATE, (len(tiny.NAMES),)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (len(tiny.NAMES),))},
    }


@contextmanager
def small_pi(module: ModuleType, vocabulary: int) -> Iterator[None]:
    """π0's or π0.5's module with small sizes in place of those it hard-codes."""
    sizes = {"gemma_2b": tiny.LANGUAGE, "gemma_300m": tiny.EXPERT}
    build_vlm, build_expert = module.PaliGemmaForConditionalGeneration, module.GemmaForCausalLM

    def gemma_config(variant: str) -> Any:
        s = sizes[variant]
        return module.GemmaConfig(s["width"], s["depth"], s["mlp"], s["heads"], s["kv_heads"], s["head_dim"])

    def small_vlm(config: Any) -> torch.nn.Module:
        vision = config.vision_config
        vision.hidden_size, vision.intermediate_size = tiny.VISION["width"], tiny.VISION["mlp"]
        vision.num_hidden_layers, vision.num_attention_heads = tiny.VISION["depth"], tiny.VISION["heads"]
        vision.patch_size, vision.projection_dim = tiny.PATCH_SIZE, tiny.LANGUAGE["width"]
        config.projection_dim = config.hidden_size = tiny.LANGUAGE["width"]
        config.text_config.vocab_size = vocabulary
        return build_vlm(config=config)

    def small_expert(config: Any) -> torch.nn.Module:
        config.vocab_size = vocabulary
        return build_expert(config=config)

    with (
        mock.patch.object(module, "get_gemma_config", gemma_config),
        mock.patch.object(module, "PaliGemmaForConditionalGeneration", small_vlm),
        mock.patch.object(module, "GemmaForCausalLM", small_expert),
    ):
        yield


def write_pi(
    directory: Path, module: ModuleType, build: Any, config_class: Any, make_processors: Any, state_width: int
) -> None:
    generator = torch.Generator().manual_seed(tiny.SEED)
    tokenizer = tiny.write_tokenizer(directory, ("<pad>", "<eos>", "<bos>", "<unk>"), bos="<bos>")
    config = config_class(
        **features(),
        chunk_size=tiny.HORIZON,
        n_action_steps=4,
        max_state_dim=state_width,
        max_action_dim=9,
        image_resolution=(tiny.IMAGE_SIZE, tiny.IMAGE_SIZE),
        empty_cameras=1,
        device="cpu",
    )
    with small_pi(module, len(tokenizer)):
        policy = build(config).eval()
    tiny.randomise(policy, generator)
    with mock.patch.object(tokenizer_processor.AutoTokenizer, "from_pretrained", return_value=tokenizer):
        pre, post = make_processors(config, tiny.statistics(generator))
    frames, raw_state, batch = observe(pre, generator)
    noise = torch.randn(1, tiny.HORIZON, config.max_action_dim, generator=generator)
    images, image_masks = policy._preprocess_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    prepared = [images, image_masks, tokens, token_mask]
    computed = {"images": torch.cat(images), "image_mask": torch.stack(image_masks, dim=1)}
    if hasattr(policy, "prepare_state"):
        computed["state"] = policy.prepare_state(batch)
        prepared.append(computed["state"])
    chunk = policy.model.sample_actions(*prepared, noise=noise.clone())
    actions = post(policy.predict_action_chunk(batch, noise=noise.clone()))
    computed |= {"tokens": tokens, "token_mask": token_mask, "noise": noise, "chunk": chunk, "actions": actions}
    computed["normalised_state"] = batch["observation.state"]
    write(directory, policy, pre, post, tiny.tensors(frames, raw_state, **computed))
    tiny.add_sizes(directory, **PI_SIZES, vocab_size=len(tokenizer))


def write_smolvla(directory: Path) -> None:
    generator = torch.Generator().manual_seed(tiny.SEED)
    tokenizer = tiny.write_tokenizer(directory, small.SMOL_SPECIALS, bos=None)
    tokenizer.fake_image_token_id, tokenizer.global_image_token_id = 2, 3
    config = SmolVLAConfig(
        **features(),
        chunk_size=tiny.HORIZON,
        n_action_steps=4,
        max_state_dim=10,
        max_action_dim=9,
        resize_imgs_with_padding=(small.SMOL_IMAGE, small.SMOL_IMAGE),
        num_vlm_layers=2,
        empty_cameras=1,
        device="cpu",
    )
    vlm, processor = small.small_smolvlm(len(tokenizer)), SimpleNamespace(tokenizer=tokenizer)
    with (
        mock.patch.object(smolvlm_with_expert.AutoConfig, "from_pretrained", return_value=vlm),
        mock.patch.object(smolvlm_with_expert.AutoProcessor, "from_pretrained", return_value=processor),
    ):
        policy = modeling_smolvla.SmolVLAPolicy(config).eval()
    tiny.randomise(policy, generator, norms_at_one=None)
    with mock.patch.object(tokenizer_processor.AutoTokenizer, "from_pretrained", return_value=tokenizer):
        pre, post = make_smolvla_pre_post_processors(config, tiny.statistics(generator))
    frames, raw_state, batch = observe(pre, generator)
    noise = torch.randn(1, tiny.HORIZON, config.max_action_dim, generator=generator)
    images, image_masks = policy.prepare_images(batch)
    tokens, token_mask = batch["observation.language.tokens"], batch["observation.language.attention_mask"]
    state = policy.prepare_state(batch)
    chunk = policy.model.sample_actions(images, image_masks, tokens, token_mask, state, noise=noise.clone())
    actions = post(policy.predict_action_chunk(batch, noise=noise.clone()))
    computed = tiny.tensors(
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
    write(directory, policy, pre, post, computed)
    if not IS_SHIFTED:
        small.write_vlm(directory, vlm)


def observe(pre: Any, generator: torch.Generator) -> tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, Any]]:
    """Frames, state, and the batch that the release's own pre-processor makes of them."""
    frames, raw_state = tiny.observation(generator)
    images = {f"observation.images.{c}": f.float() / 255.0 for c, f in frames.items()}
    return frames, raw_state, pre({**images, "observation.state": raw_state, "task": TASK})


def write(directory: Path, policy: Any, pre: Any, post: Any, found: dict[str, torch.Tensor]) -> None:
    if IS_SHIFTED:
        shifted = {name: found[name] for name in ("chunk", "actions")}
        save_file(shifted, directory / "outputs_shifted.safetensors", metadata={"task": TASK})
        return
    for part in (policy, pre, post):
        part.save_pretrained(directory)
    save_file(found, directory / "outputs.safetensors", metadata={"task": TASK})
    tiny.write_deployment(directory)


def write_pi0(directory: Path) -> None:
    write_pi(directory, modeling_pi0, modeling_pi0.PI0Policy, PI0Config, make_pi0_pre_post_processors, state_width=10)


def write_pi05(directory: Path) -> None:
    """The state's width is the published one: the release writes it into the prompt, but into no processor file."""
    write_pi(
        directory, modeling_pi05, modeling_pi05.PI05Policy, PI05Config, make_pi05_pre_post_processors, state_width=32
    )


if __name__ == "__main__":
    with torch.no_grad():
        if not IS_SHIFTED:
            write_pi0(LAYOUTS / "lerobot_0_4_pi0")
            write_pi05(LAYOUTS / "lerobot_0_4_pi05")
        write_smolvla(LAYOUTS / "lerobot_0_4_smolvla")
