from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.vla_export.checkpoints.golden_policies import GOLDENS
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_paligemma_config import BARS_OF_0_4, read_pi0, read_pi05
from vla_export.checkpoints.policy_config import PolicyConfig
from vla_export.models.pi0 import Pi0
from vla_export.models.pi05 import Pi05
from vla_runtime.errors import BadInput

READERS = {"pi0": read_pi0, "pi05": read_pi05}
Edit = Callable[[dict[str, Any]], object]
ContentsWith = Callable[..., Contents]


@pytest.fixture(params=["pi0", "pi05"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def read(family: str, contents_with: ContentsWith) -> Callable[..., PolicyConfig]:
    def change(edit: Edit = lambda _: None) -> PolicyConfig:
        return READERS[family](contents_with(GOLDENS / family, edit))

    return change


def build(config: PolicyConfig) -> Pi0 | Pi05:
    with torch.device("meta"):
        model = config.build(lambda _: 0)
    assert isinstance(model, Pi0 | Pi05)
    return model


def test_sizes_come_from_the_config(read: Callable[..., PolicyConfig], family: str) -> None:
    config = read()
    small = build(config).config
    assert config.family == family
    assert (small.vision.width, small.language.width, small.expert.width) == ({"pi0": 32, "pi05": 24}[family], 40, 24)
    assert (small.horizon, small.action_width, small.image_size) == (11, 9, 42)
    assert (config.action.numbers, config.action.padded_to) == (7, 9)
    assert (config.images.side, config.images.padding, config.images.bars) == (42, "both", -1.0)


def test_without_sizes_it_is_the_published_policy(read: Callable[..., PolicyConfig], family: str) -> None:
    def publish(content: dict[str, Any]) -> None:
        for declared in ("vision_config", "language_config", "expert_config", "vocab_size", "patch_size"):
            del content[declared]
        content |= {"image_resolution": [224, 224], "max_state_dim": 32, "max_action_dim": 32, "chunk_size": 50}

    config = read(publish)
    stored = json.loads(gzip.decompress((GOLDENS / f"{family}_full_size.json.gz").read_bytes()))
    for ours, tensor in build(config).state_dict().items():
        assert list(tensor.shape) == stored[config.keys.theirs(ours)]


def test_only_pi0_has_a_state_tensor(contents_with: ContentsWith) -> None:
    state = read_pi0(contents_with(GOLDENS / "pi0")).state
    assert (state.numbers, state.padded_to) == (7, 10)
    assert read_pi05(contents_with(GOLDENS / "pi05")).state.padded_to == 7


def test_an_empty_camera_is_left_out(contents_with: ContentsWith) -> None:
    """One that is only called so, in a policy that has no empty cameras, is a camera."""
    empty = "observation.images.empty_camera_0"
    real = ("observation.images.side", "observation.images.wrist")
    contents = contents_with(GOLDENS / "pi0")
    assert empty in contents.config["input_features"]
    assert read_pi0(contents).cameras == real
    assert read_pi0(contents_with(GOLDENS / "pi0", lambda c: c.update(empty_cameras=0))).cameras == (*real, empty)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_obs_steps", 2),
        ("use_peft", True),
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
        ("normalization_mapping", {"STATE": "MEDIAN"}),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    read: Callable[..., PolicyConfig], field: str, value: object
) -> None:
    name = {"max_state_dim": "observation.state", "input_features": "camera", "output_features": "action"}
    with pytest.raises(BadInput, match=name.get(field, field)):
        read(lambda content: content.update({field: value}))


def test_an_unsupported_feature_is_named(read: Callable[..., PolicyConfig]) -> None:
    effort = {"observation.effort": {"type": "STATE", "shape": [7]}}
    with pytest.raises(BadInput, match=r"observation\.effort"):
        read(lambda content: content["input_features"].update(effort))


def test_normalised_images_are_refused(read: Callable[..., PolicyConfig]) -> None:
    with pytest.raises(BadInput, match="VISUAL"):
        read(lambda content: content["normalization_mapping"].update(VISUAL="MEAN_STD"))


def test_language_and_expert_that_cannot_share_keys_are_refused(read: Callable[..., PolicyConfig]) -> None:
    with pytest.raises(BadInput, match="depth"):
        read(lambda content: content["expert_config"].update(depth=3))


def test_real_time_chunking_that_is_configured_but_off_changes_nothing(read: Callable[..., PolicyConfig]) -> None:
    read(lambda content: content.update(rtc_config={"enabled": False, "execution_horizon": 10}))


def test_a_missing_field_is_named(read: Callable[..., PolicyConfig]) -> None:
    with pytest.raises(BadInput, match="chunk_size"):
        read(lambda content: content.pop("chunk_size"))


def test_every_field_that_lerobot_writes_has_a_fate(read: Callable[..., PolicyConfig]) -> None:
    read()
    with pytest.raises(BadInput, match="unknown field surprise"):
        read(lambda content: content.update(surprise=1))


@pytest.mark.parametrize(
    ("exclude", "names", "relative"),
    [
        ([], None, (True,) * 7),
        (["gripper"], None, (True,) * 7),
        (["Gripper"], [*(f"joint{n}.pos" for n in range(6)), "gripper.pos"], (True,) * 6 + (False,)),
    ],
)
def test_relative_actions(
    read: Callable[..., PolicyConfig], exclude: list[str], names: list[str] | None, relative: tuple[bool, ...]
) -> None:
    fields = {"use_relative_actions": True, "relative_exclude_joints": exclude, "action_feature_names": names}
    assert read(lambda content: content.update(fields)).relative == relative
    assert read(lambda content: content.update(fields | {"use_relative_actions": False})).relative == ()


SINCE_0_5_1 = ("use_relative_actions", "relative_exclude_joints", "action_feature_names")


def older(content: dict[str, Any]) -> None:
    for field in SINCE_0_5_1:
        del content[field]
    if content["type"] == "pi05":
        content["max_state_dim"] = 32


def tied(contents: Contents) -> Contents:
    """As 0.4 stores it: the head alone, which is the embedding too."""
    tensors = {n: t for n, t in contents.tensors.items() if not n.endswith("embed_tokens.weight")}
    return replace(contents, tensors=replace(contents.tensors, tensors=tensors))


def test_the_weights_tell_0_4_from_0_5(contents_with: ContentsWith, family: str) -> None:
    """Their configs are the same; 0.4 ties the head to the embedding and stores one of them."""
    contents, reader = contents_with(GOLDENS / family, older), READERS[family]
    of_0_5, of_0_4 = reader(contents), reader(tied(contents))
    assert (of_0_5.images.bars, of_0_4.images.bars) == (-1.0, BARS_OF_0_4)
    assert (of_0_5.state.padded_to, of_0_4.state.padded_to) == {"pi0": (10, 10), "pi05": (7, 32)}[family]


def test_a_field_of_0_5_1_outweighs_the_weights(contents_with: ContentsWith, family: str) -> None:
    assert READERS[family](tied(contents_with(GOLDENS / family))).images.bars == -1.0


def test_a_width_that_0_4_forgot(contents_with: ContentsWith) -> None:
    contents = contents_with(GOLDENS / "pi05", lambda content: (older(content), content.update(max_state_dim=10)))
    with pytest.raises(BadInput, match="max_state_dim is 10; an export knows only 32"):
        read_pi05(tied(contents))


def test_an_error_names_the_file(contents_with: ContentsWith) -> None:
    with pytest.raises(BadInput, match=str(GOLDENS / "pi0" / "config.json")):
        read_pi0(contents_with(GOLDENS / "pi0", lambda content: content.pop("min_period")))
