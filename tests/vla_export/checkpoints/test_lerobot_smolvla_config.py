from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.vla_export.checkpoints.golden_policies import GOLDENS, LAYOUTS, copy_checkpoint
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_smolvla_config import read_smolvla
from vla_export.checkpoints.policy_config import PolicyConfig
from vla_export.models.smolvla import SmolVLA
from vla_runtime.errors import BadInput

ContentsWith = Callable[..., Contents]
IDS = {"<fake_token_around_image>": 5, "<global-img>": 7}


def build(config: PolicyConfig) -> SmolVLA:
    with torch.device("meta"):
        model = config.build(IDS.__getitem__)
    assert isinstance(model, SmolVLA)
    return model


def test_sizes_come_from_the_vlm_and_the_config(contents_with: ContentsWith) -> None:
    config = read_smolvla(contents_with(GOLDENS / "smolvla"))
    sizes = build(config).config
    assert (sizes.language.depth, sizes.language.width, sizes.language.head_dim) == (4, 48, 10)
    assert (sizes.expert.depth, sizes.expert.width, sizes.expert.mlp) == (4, 36, 256)
    assert (sizes.vocabulary, sizes.image_size, sizes.patch_size, sizes.pixel_shuffle) == (303, 48, 6, 2)
    assert (sizes.image_start, sizes.image_end, sizes.empty_cameras) == ((), (), 0)
    assert (config.images.side, config.images.padding) == (48, "left_top")
    assert config.tokenizer == "tiny/smolvlm"


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "/models/SmolVLM2-500M-Video-Instruct"])
def test_the_published_vlm_needs_no_file(contents_with: ContentsWith, tmp_path: Path, name: str) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "smolvla", tmp_path)
    (checkpoint / "vlm_config.json").unlink()
    published = {
        "vlm_model_name": name,
        "num_vlm_layers": 16,
        "resize_imgs_with_padding": [512, 512],
        "max_state_dim": 32,
        "max_action_dim": 32,
    }
    config = read_smolvla(contents_with(checkpoint, lambda content: content.update(published)))
    stored = json.loads(gzip.decompress((GOLDENS / "smolvla_full_size.json.gz").read_bytes()))
    for ours, tensor in build(config).state_dict().items():
        assert list(tensor.shape) == stored[config.keys.theirs(ours)]


def test_another_vlm_needs_its_config(contents_with: ContentsWith, tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "smolvla", tmp_path)
    (checkpoint / "vlm_config.json").unlink()
    with pytest.raises(BadInput, match=r"tiny/smolvlm.*vlm_config\.json"):
        read_smolvla(contents_with(checkpoint))


@pytest.mark.parametrize("empty", [0, 2])
def test_words_around_images(contents_with: ContentsWith, empty: int) -> None:
    fields = {"add_image_special_tokens": True, "empty_cameras": empty}
    sizes = build(read_smolvla(contents_with(GOLDENS / "smolvla", lambda content: content.update(fields)))).config
    assert (sizes.image_start, sizes.image_end, sizes.empty_cameras) == ((5, 7), (5,), empty)


@pytest.mark.parametrize(
    "changed",
    [
        {"prefix_length": 200, "pad_language_to": "max_length"},
        {"n_action_steps": 1},
        {"num_expert_layers": 4},
        {"num_expert_layers": 0},
        {"rtc_config": {"enabled": False}},
    ],
)
def test_what_changes_nothing(contents_with: ContentsWith, changed: dict[str, Any]) -> None:
    plain = read_smolvla(contents_with(GOLDENS / "smolvla"))
    other = read_smolvla(contents_with(GOLDENS / "smolvla", lambda content: content.update(changed)))
    assert build(other).config == build(plain).config


@pytest.mark.parametrize(("layers", "depth"), [(0, 6), (-1, 6), (3, 3)])
def test_how_many_layers_of_the_vlm_are_kept(contents_with: ContentsWith, layers: int, depth: int) -> None:
    sizes = build(
        read_smolvla(contents_with(GOLDENS / "smolvla", lambda content: content.update(num_vlm_layers=layers)))
    ).config
    assert (sizes.language.depth, sizes.expert.depth) == (depth, depth)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_obs_steps", 2),
        ("num_vlm_layers", 7),
        ("num_expert_layers", 1),
        ("resize_imgs_with_padding", None),
        ("resize_imgs_with_padding", [96, 96]),
        ("attention_mode", "causal"),
        ("adapt_to_pi_aloha", True),
        ("use_delta_joint_actions_aloha", True),
        ("use_peft", True),
        ("rtc_config", {"enabled": True}),
        ("surprise", 1),
    ],
)
@pytest.mark.parametrize("golden", [GOLDENS / "smolvla", LAYOUTS / "lora_sp_smolvla"], ids=lambda path: path.name)
def test_what_cannot_be_honoured_is_refused_by_name(
    contents_with: ContentsWith, golden: Path, field: str, value: object
) -> None:
    with pytest.raises(BadInput, match=field):
        read_smolvla(contents_with(golden, lambda content: content.update({field: value})))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("text_config", "hidden_act", "gelu"),
        ("text_config", "rms_norm_eps", 1e-6),
        ("text_config", "attention_bias", True),
        ("text_config", "num_key_value_heads", 4),
        ("text_config", "head_dim", None),
        ("vision_config", "hidden_act", "gelu"),
        ("vision_config", "layer_norm_eps", 1e-5),
        ("vision_config", "num_attention_heads", 5),
        ("vision_config", "image_size", 50),
    ],
)
def test_a_vlm_that_is_built_otherwise_is_refused(
    contents_with: ContentsWith, tmp_path: Path, part: str, field: str, value: object
) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "smolvla", tmp_path)
    path = checkpoint / "vlm_config.json"
    content = json.loads(path.read_text())
    content[part][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match=rf"vlm_config\.json: {part}"):
        read_smolvla(contents_with(checkpoint))
