"""Against LeRobot 0.6.1, whose answers tests/oracles/smolvla_lerobot.py wrote."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.vla_export.models.tiny_families import FLOW_STEPS, GOLDENS, golden, observed, relative_error, smolvla
from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_export.models.smolvla import SMOL_EXPERT, SmolVLA, SmolVLAConfig, shuffled
from vla_export.prune.surgery import remove_layers
from vla_export.sample import Sample, sample_actions
from vla_runtime.policy.images import letterbox

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model() -> SmolVLA:
    return smolvla()


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    return golden("smolvla")


@pytest.fixture(scope="module")
def prefix(model: SmolVLA, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.encode(observed(theirs))


def test_the_golden_has_two_cameras_and_both_kinds_of_layers(model: SmolVLA, theirs: dict[str, Tensor]) -> None:
    assert theirs["image_mask"].tolist() == [[True, True]]
    assert [layer.kind for layer in model.expert] == ["joint", "cross", "joint", "cross"]


@torch.no_grad()
def test_images_words_and_state_as_one_sequence(model: SmolVLA, theirs: dict[str, Tensor]) -> None:
    found = model.embed(theirs["images"], theirs["tokens"].int(), theirs["state"])
    assert relative_error(found, theirs["prefix"]) < TOLERANCE


@torch.no_grad()
def test_prefix_keys_and_values_of_every_layer(
    model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    seen = theirs["prefix_mask"]
    assert torch.equal(prefix["prefix_mask"], seen)
    assert set(prefix) == {"prefix_mask", *(f"{w}_{n:02d}" for w in ("key", "value") for n in range(4))}
    weights = load_file(GOLDENS / "smolvla" / "model.safetensors")
    for n, layer in enumerate(model.expert):
        for what, linear in (("key", "k_proj"), ("value", "v_proj")):
            expected = theirs[f"{what}_{n:02d}"]
            if layer.kind == "cross":
                weight = weights[SMOLVLA_KEYS.theirs(f"expert.layers.{n}.attention.{linear}.weight")]
                flat = expected.transpose(1, 2).reshape(1, expected.shape[2], -1) @ weight.T
                expected = flat.view(1, -1, 2, 10).transpose(1, 2)
            found = prefix[f"{what}_{n:02d}"]
            assert relative_error(found[:, :, seen[0]], expected[:, :, seen[0]]) < TOLERANCE, (what, n)


@torch.no_grad()
def test_one_step(model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    velocity = model.velocity(theirs["noise"], torch.tensor([0.7]), prefix)
    assert relative_error(velocity, theirs["velocity"]) < TOLERANCE


@torch.no_grad()
def test_ten_steps(model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    chunk, noise = model.sample(prefix, theirs["noise"], FLOW_STEPS), theirs["noise"]
    # The integral itself, not only its sum with the noise.
    assert relative_error(chunk - noise, theirs["chunk"] - noise) < TOLERANCE


@pytest.mark.parametrize("variant", ["one", "three", "masked", "padded", "long_prefix", "special", "special_masked"])
@torch.no_grad()
def test_other_cameras_and_settings(variant: str) -> None:
    """``masked`` has an empty camera, of which nothing is seen but the words around it, where there are any."""
    theirs = load_file(GOLDENS / "smolvla_cameras.safetensors")
    cameras = {"one": ["wrist"], "three": ["wrist", "top", "side"], "masked": ["top", "side"]}.get(variant)
    images = [letterbox(theirs[f"frame.{c}"].numpy(), 48, 48, "left_top") for c in cameras or ["side", "wrist"]]
    changed: dict[str, object] = {}
    if "special" in variant:
        words = {name: tuple(theirs[f"{variant}.{name}_image"].tolist()) for name in ("before", "after")}
        changed = {"image_start": words["before"], "image_end": words["after"]}
    model = smolvla(**changed, empty_cameras=int("masked" in variant))
    statistics = load_file(GOLDENS / "smolvla" / "policy_preprocessor_step_5_normalizer_processor.safetensors")
    state = (theirs["raw_state"] - statistics["observation.state.mean"]) / statistics["observation.state.std"]
    prefix = model.encode(
        {
            "images": torch.stack([torch.from_numpy(image) for image in images]),
            "tokens": theirs[f"{variant}.tokens"].int(),
            "token_mask": theirs[f"{variant}.token_mask"],
            "state": F.pad(state, (0, 3))[None],
        }
    )
    chunk = model.sample(prefix, theirs["noise"], FLOW_STEPS)[..., :7]
    noise = theirs["noise"][..., :7]
    assert relative_error(chunk - noise, theirs[f"{variant}.chunk"] - noise) < TOLERANCE


@torch.no_grad()
def test_padding_words_change_nothing(model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    inputs = observed(theirs)
    longer = F.pad(inputs["tokens"], (0, 3), value=77), F.pad(inputs["token_mask"], (0, 3))
    padded = model.encode(inputs | dict(zip(("tokens", "token_mask"), longer, strict=True)))
    assert padded["key_00"].shape[2] == prefix["key_00"].shape[2] + 3
    changed = model.sample(padded, theirs["noise"], FLOW_STEPS)
    torch.testing.assert_close(changed, model.sample(prefix, theirs["noise"], FLOW_STEPS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["images", "tokens", "state"])
@torch.no_grad()
def test_every_input_matters(model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor], name: str) -> None:
    inputs = observed(theirs)
    changed = {
        "images": inputs["images"].flip(0),
        "tokens": torch.where(theirs["token_mask"], inputs["tokens"] + 1, inputs["tokens"]),
        "state": inputs["state"] + 0.5,
    }[name]
    chunk = model.sample(model.encode(inputs | {name: changed}), theirs["noise"], FLOW_STEPS)
    assert relative_error(chunk, model.sample(prefix, theirs["noise"], FLOW_STEPS)) > 1e-3


@torch.no_grad()
def test_images_and_words_do_not_see_the_state(
    model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    inputs = observed(theirs)
    changed = model.encode(inputs | {"state": inputs["state"] + 0.5})
    for name in prefix.keys() - {"prefix_mask"}:
        assert torch.equal(prefix[name][:, :, :-1], changed[name][:, :, :-1])
        assert not torch.equal(prefix[name][:, :, -1], changed[name][:, :, -1])


@torch.no_grad()
def test_an_action_does_not_see_later_ones(
    model: SmolVLA, theirs: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    later = theirs["noise"].clone()
    later[:, 6:] += 1.0
    before, after = (model.velocity(noise, torch.tensor([0.7]), prefix) for noise in (theirs["noise"], later))
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=1e-6)
    assert relative_error(after[:, 6:], before[:, 6:]) > 1e-2


@torch.no_grad()
def test_layers_keep_their_kind_and_their_partner_when_others_go(theirs: dict[str, Tensor]) -> None:
    """What is removed equals what adds nothing to the residual stream: its output projections are zero."""
    removed, silent = smolvla(), smolvla()
    remove_layers(removed, {"language": {1, 2}, "expert": {1, 2}})
    for stack in (silent.language, silent.expert):
        for layer in (layer for n, layer in enumerate(stack) if n in (1, 2)):
            layer.attention.o_proj.weight.zero_()
            layer.mlp.get_parameter("down_proj.weight").zero_()
    assert [layer.kind for layer in removed.expert] == ["joint", "cross"]
    sample = Sample(observed(theirs), theirs["noise"])
    torch.testing.assert_close(sample_actions(removed, sample, 3), sample_actions(silent, sample, 3))
    short, full = removed.encode(sample.observed), silent.encode(sample.observed)
    for new, old in ((0, 0), (1, 3)):
        for what in ("key", "value"):
            torch.testing.assert_close(short[f"{what}_{new:02d}"], full[f"{what}_{old:02d}"])


def test_kinds_follow_the_attention_mode() -> None:
    def kinds(**settings: object) -> str:
        return "".join(kind[0] for kind in SmolVLAConfig(**settings).expert_kinds())  # type: ignore[arg-type]  # any

    assert kinds() == "jc" * 8
    assert kinds(self_attn_every_n_layers=3) == "jccjccjccjccjccj"
    assert kinds(self_attn_every_n_layers=0) == "c" * SMOL_EXPERT.depth
    assert kinds(attention_mode="self_attn") == "j" * SMOL_EXPERT.depth


def test_a_square_of_patches_becomes_one_token_row_by_row() -> None:
    rows = torch.arange(36.0).view(1, 36, 1)
    found = shuffled(rows, 3)
    assert found.shape == (1, 4, 9)
    assert found[0, 1].tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
