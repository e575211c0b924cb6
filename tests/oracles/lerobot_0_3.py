"""Writes goldens from LeRobot 0.3.3: tiny π0 and SmolVLA checkpoints as it saves them, and what it computes with them.

It needs an environment of its own, runs offline and on the CPU in under a minute:

    python3.12 -m venv old-env && old-env/bin/pip install "lerobot[smolvla]==0.3.3" pytest "transformers==4.53.2"
    old-env/bin/python tests/oracles/lerobot_0_3.py

(LeRobot 0.3.3 pins transformers below 4.52, but its π0 calls ``language_model.embed_tokens``, which exists from 4.52
on; SmolVLA gives the same numbers under both.)

Written under ``tests/oracles/goldens/layouts/lerobot_0_3_pi0`` and ``…_smolvla``: config.json and model.safetensors
as ``save_pretrained`` writes them; what a deployment adds (sizes in config.json or vlm_config.json, the tokenizer's two
files, deployment.yaml); and ``outputs.safetensors``: a raw observation with fixed noise, what is prepared of it, and
the actions in the robot's units.

Sizes are replaced before the policy is built, and bfloat16 is float32 while it is built and runs: the release rounds
activations to bfloat16, which would hide every difference below 1e-2. Nothing else that computes is touched.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import lerobot_with_buffers as small
import tiny_policy as tiny
import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.pi0 import modeling_pi0
from lerobot.policies.pi0.configuration_pi0 import PI0Config
from lerobot.policies.smolvla import modeling_smolvla, smolvlm_with_expert
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from safetensors.torch import save_file

LAYOUTS = Path(__file__).parent / "goldens" / "layouts"
TASK = "put the red_cube on the table"


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


def write_pi0(directory: Path) -> None:
    generator = torch.Generator().manual_seed(tiny.SEED)
    tokenizer = tiny.write_tokenizer(directory, ("<pad>", "<eos>", "<bos>", "<unk>"), bos="<bos>")
    config = PI0Config(
        **features(),
        chunk_size=tiny.HORIZON,
        n_action_steps=tiny.HORIZON,
        max_state_dim=10,
        max_action_dim=9,
        resize_imgs_with_padding=(tiny.IMAGE_SIZE, tiny.IMAGE_SIZE),
        empty_cameras=1,
        proj_width=tiny.EXPERT["width"],
        device="cpu",
    )
    with (
        small.in_float32(),
        mock.patch.object(
            modeling_pi0,
            "PaliGemmaWithExpertConfig",
            small.small_paligemma(modeling_pi0.PaliGemmaWithExpertConfig, len(tokenizer)),
        ),
        mock.patch.object(modeling_pi0.AutoTokenizer, "from_pretrained", return_value=tokenizer),
    ):
        policy = modeling_pi0.PI0Policy(config, dataset_stats=tiny.statistics(generator)).eval()
        tiny.randomise(policy, generator)
        found = small.outputs(policy, TASK, generator)
    policy.save_pretrained(directory)
    tiny.add_sizes(
        directory,
        vision_config=tiny.VISION,
        language_config=tiny.LANGUAGE,
        expert_config=tiny.EXPERT,
        vocab_size=len(tokenizer),
        patch_size=tiny.PATCH_SIZE,
    )
    tiny.write_deployment(directory)
    save_file(found, directory / "outputs.safetensors", metadata={"task": TASK})


def write_smolvla(directory: Path) -> None:
    generator = torch.Generator().manual_seed(tiny.SEED)
    tokenizer = tiny.write_tokenizer(directory, small.SMOL_SPECIALS, bos=None)
    tokenizer.fake_image_token_id, tokenizer.global_image_token_id = 2, 3
    config = SmolVLAConfig(
        **features(),
        normalization_mapping={
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MIN_MAX,
            "ACTION": NormalizationMode.MIN_MAX,
        },
        chunk_size=tiny.HORIZON,
        n_action_steps=tiny.HORIZON,
        max_state_dim=10,
        max_action_dim=9,
        resize_imgs_with_padding=(small.SMOL_IMAGE, small.SMOL_IMAGE),
        num_vlm_layers=2,
        device="cpu",
    )
    processor = SimpleNamespace(tokenizer=tokenizer)
    vlm = small.small_smolvlm(len(tokenizer))
    with (
        small.in_float32(),
        mock.patch.object(smolvlm_with_expert.AutoConfig, "from_pretrained", return_value=vlm),
        mock.patch.object(smolvlm_with_expert.AutoProcessor, "from_pretrained", return_value=processor),
        mock.patch.object(modeling_smolvla.AutoProcessor, "from_pretrained", return_value=processor),
    ):
        policy = modeling_smolvla.SmolVLAPolicy(config, dataset_stats=tiny.statistics(generator)).eval()
        tiny.randomise(policy, generator, norms_at_one=None)
        found = small.outputs(policy, TASK, generator)
    policy.save_pretrained(directory)
    small.write_vlm(directory, vlm)
    tiny.write_deployment(directory)
    save_file(found, directory / "outputs.safetensors", metadata={"task": TASK})


if __name__ == "__main__":
    write_pi0(LAYOUTS / "lerobot_0_3_pi0")
    write_smolvla(LAYOUTS / "lerobot_0_3_smolvla")
