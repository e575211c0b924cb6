from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.lerobot_config import parse_config
from vla_export.models.pi0 import GEMMA_2B, GEMMA_300M, SIGLIP_SO400M
from vla_runtime.errors import BadInput


@pytest.fixture
def content(checkpoint: Path) -> dict[str, Any]:
    return read_json(checkpoint / "config.json")


PATH = Path("config.json")


def test_an_empty_camera_is_left_out(content: dict[str, Any]) -> None:
    assert content["empty_cameras"] == 1
    assert "observation.images.empty_camera_0" in content["input_features"]
    assert parse_config(content, PATH).cameras() == ("observation.images.side", "observation.images.wrist")


def test_sizes_come_from_the_config_or_are_the_published_ones(content: dict[str, Any]) -> None:
    small = parse_config(content, PATH).sizes()
    assert (small.vision.width, small.language.width, small.expert.width) == (32, 40, 24)
    assert (small.horizon, small.state_width, small.action_width, small.image_size) == (11, 10, 9, 42)
    for declared in ("vision_config", "language_config", "expert_config", "vocab_size", "patch_size"):
        del content[declared]
    content["image_resolution"] = [224, 224]
    published = parse_config(content, PATH).sizes()
    assert (published.vision, published.language, published.expert) == (SIGLIP_SO400M, GEMMA_2B, GEMMA_300M)
    assert (published.vocabulary, published.patch_size) == (257_152, 14)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_obs_steps", 2),
        ("use_peft", True),
        ("use_relative_actions", True),
        ("adapt_to_pi_aloha", True),
        ("use_delta_joint_actions_aloha", True),
        ("rtc_config", {"enabled": True}),
        ("resize_imgs_with_padding", [224, 224]),
        ("paligemma_variant", "gemma_7b"),
        ("image_resolution", [42, 56]),
        ("image_resolution", [43, 43]),
        ("chunk_size", 0),
        ("max_state_dim", 6),
        ("input_features", {"observation.state": {"type": "STATE", "shape": [7]}}),
        ("output_features", {}),
        ("vision_config", {"depth": 2}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(content: dict[str, Any], field: str, value: object) -> None:
    content[field] = value
    name = {
        "max_state_dim": "observation.state",
        "input_features": "camera",
        "output_features": "action",
    }.get(field, field)
    with pytest.raises(BadInput, match=name):
        parse_config(content, PATH)


def test_an_unsupported_feature_is_named(content: dict[str, Any]) -> None:
    content["input_features"]["observation.effort"] = {"type": "STATE", "shape": [7]}
    with pytest.raises(BadInput, match="observation.effort"):
        parse_config(content, PATH)


def test_normalised_images_are_refused(content: dict[str, Any]) -> None:
    content["normalization_mapping"]["VISUAL"] = "MEAN_STD"
    with pytest.raises(BadInput, match="VISUAL"):
        parse_config(content, PATH)


def test_language_and_expert_that_cannot_share_keys_are_refused(content: dict[str, Any]) -> None:
    content["expert_config"]["depth"] = 3
    with pytest.raises(BadInput, match="depth"):
        parse_config(content, PATH)


def test_real_time_chunking_that_is_configured_but_off_changes_nothing(content: dict[str, Any]) -> None:
    content["rtc_config"] = {"enabled": False, "execution_horizon": 10}
    parse_config(content, PATH)


def test_a_missing_field_is_named(content: dict[str, Any]) -> None:
    del content["chunk_size"]
    with pytest.raises(BadInput, match="chunk_size"):
        parse_config(content, PATH)


def test_every_field_that_lerobot_writes_has_a_fate(content: dict[str, Any]) -> None:
    parse_config(content, PATH)
    content["surprise"] = 1
    with pytest.raises(BadInput, match="unknown field surprise"):
        parse_config(content, PATH)
