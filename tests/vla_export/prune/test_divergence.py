"""The divergence of a unit against its definition, and what has none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.toy_policy import toy_policy
from tests.vla_export.adapters.routed_toys import route
from tests.vla_export.models.tiny_families import smolvla
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.models.flow_model import FlowModel
from vla_export.prune import divergence as measured
from vla_export.prune.base_vlm import BaseVlm, open_base
from vla_export.prune.divergence import divergence
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_runtime.errors import BadInput


@pytest.fixture
def base(tmp_path: Path) -> BaseVlm:
    return moved_base(toy_policy(), "pi0", tmp_path)


def moved_base(model: FlowModel, family: str, directory: Path) -> BaseVlm:
    model_type = "smolvlm" if family == "smolvla" else "paligemma"
    return open_base(write_base(directory, moved(vlm_tensors(model, family), 0.1), model_type), family)


def distance(own: Tensor, theirs: Tensor, absolute: bool) -> float:
    found = float((own.double() - theirs.double()).norm())
    return found if absolute else found / float(theirs.double().norm())


def linear(model: FlowModel, path: str) -> nn.Linear:
    found = model.get_submodule(path)
    assert isinstance(found, nn.Linear)
    return found


@pytest.mark.parametrize("absolute", [False, True])
def test_a_channel_is_its_rows_and_its_column(base: BaseVlm, absolute: bool) -> None:
    model = toy_policy()
    found = divergence(model, base, "language.mlp", absolute)
    assert [len(layer) for layer in found.scores] == [32] * 6
    path, channel = "language.layers.4.mlp", 7
    expected = sum(
        distance(own, theirs, absolute)
        for name in ("gate_proj", "up_proj", "down_proj")
        for own, theirs in [
            (tensor[:, channel] if name == "down_proj" else tensor[channel] for tensor in pair)
            for pair in [(linear(model, f"{path}.{name}").weight, base.read(f"{path}.{name}.weight"))]
        ]
    )
    assert float(found.scores[4][channel]) == pytest.approx(expected, rel=1e-6)


def test_a_towers_channel_has_a_bias(base: BaseVlm) -> None:
    model = toy_policy()
    found = divergence(model, base, "vision.mlp", absolute=False)
    path, channel = "vision.stack.layers.1.mlp", 11
    own, theirs = (
        torch.cat((weight[channel], bias[channel : channel + 1]))
        for weight, bias in (
            (linear(model, f"{path}.fc1").weight, linear(model, f"{path}.fc1").bias),
            (base.read(f"{path}.fc1.weight"), base.read(f"{path}.fc1.bias")),
        )
    )
    out = distance(linear(model, f"{path}.fc2").weight[:, channel], base.read(f"{path}.fc2.weight")[:, channel], False)
    assert float(found.scores[1][channel]) == pytest.approx(distance(own, theirs, False) + out, rel=1e-6)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_head_is_the_mean_of_its_queries_and_of_the_keys_it_reads(absolute: bool, tmp_path: Path) -> None:
    model = smolvla()
    base = moved_base(model, "smolvla", tmp_path)
    found = divergence(model, base, "language.heads", absolute)
    assert [len(layer) for layer in found.scores] == [6] * 4
    path, head, key = "language.layers.2.attention", 4, 1

    def rows(name: str, which: int) -> float:
        own, theirs = linear(model, f"{path}.{name}").weight, base.read(f"{path}.{name}.weight")
        numbers = range(which * 10, which * 10 + 10)
        return sum(distance(own[n], theirs[n], absolute) for n in numbers) / 10

    expected = rows("q_proj", head) + rows("k_proj", key)
    assert float(found.scores[2][head]) == pytest.approx(expected, rel=1e-6)


def test_a_head_with_keys_of_its_own_is_its_queries(base: BaseVlm) -> None:
    model = toy_policy()
    found = divergence(model, base, "vision.heads", absolute=True)
    own, path = linear(model, "vision.stack.layers.0.attention.q_proj"), "vision.stack.layers.0.attention.q_proj"
    difference = torch.cat(
        (own.weight - base.read(f"{path}.weight"), (own.bias - base.read(f"{path}.bias"))[:, None]), dim=1
    )
    assert float(found.scores[0][1]) == pytest.approx(float(difference[8:].norm(dim=1).mean()), rel=1e-5)


def test_pieces_change_nothing(base: BaseVlm, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [divergence(toy_policy(), base, module, False).scores for module in ("language.mlp", "language.heads")]
    monkeypatch.setattr(measured, "_PIECE", 50)
    small = [divergence(toy_policy(), base, module, False).scores for module in ("language.mlp", "language.heads")]
    for a, b in zip(whole, small, strict=True):
        torch.testing.assert_close(a, b)


def test_layers_that_were_removed_are_passed_over(base: BaseVlm) -> None:
    whole, short = toy_policy(), toy_policy()
    remove_layers(short, {"language": {0, 3, 4}, "expert": {0, 3, 4}})
    for module in ("language.mlp", "language.heads"):
        every = divergence(whole, base, module, absolute=False).scores
        found = divergence(short, base, module, absolute=False, origins={"language": (1, 2, 5)}).scores
        for own, index in zip(found, (1, 2, 5), strict=True):
            assert torch.equal(own, every[index])


def test_layers_reduced_to_their_memory_have_no_scores(base: BaseVlm) -> None:
    model, calls = toy_policy(), []
    keep_memory(model, "language", [2, 5])
    for module in ("language.mlp", "language.heads"):
        found = divergence(model, base, module, absolute=False, progress=lambda: calls.append(1))
        assert [len(layer) > 0 for layer in found.scores] == [True, True, False, True, True, False]
    assert len(calls) == 8


def test_of_a_branch_the_weight_alone_is_compared(base: BaseVlm) -> None:
    plain, routed = toy_policy(), toy_policy()
    route(routed, size=1.0, kinds=("language.layers.1.mlp.up_proj", "language.layers.3.attention.q_proj"))
    found = divergence(routed, base, "language.mlp", absolute=False)
    for own, expected in zip(found.scores, divergence(plain, base, "language.mlp", absolute=False).scores, strict=True):
        assert torch.equal(own, expected)
    assert found.without_branch == ("language.layers.1.mlp.up_proj",)
    assert divergence(routed, base, "language.heads", False).without_branch == ("language.layers.3.attention.q_proj",)
    assert divergence(plain, base, "language.mlp", False).without_branch == ()


@pytest.mark.parametrize("released", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", [torch.float32, torch.bfloat16, torch.float16])
def test_a_frozen_module_is_refused_whatever_rounded_it(
    released: torch.dtype, trained: torch.dtype, tmp_path: Path
) -> None:
    """float16: what a checkpoint of the released values becomes when it is loaded in half precision."""
    tensors = {name: tensor.to(released) for name, tensor in vlm_tensors(toy_policy(), "pi0").items()}
    base = open_base(write_base(tmp_path, tensors), "pi0")
    model = toy_policy()
    for name, parameter in model.named_parameters():
        if name.startswith("language") and "proj" in name:
            rounded = parameter.to(released).to(trained)
            parameter.data = rounded if trained is torch.float16 else rounded.float()
    for module in ("language.mlp", "language.heads"):
        with pytest.raises(BadInput, match=rf"{module} of the policy equals that of --base .*: it was frozen"):
            divergence(model, base, module, absolute=False)
    for name, parameter in model.named_parameters():
        if name in ("language.layers.3.mlp.up_proj.weight", "language.layers.3.attention.k_proj.weight"):
            parameter[0, 0] += 0.5
    for module in ("language.mlp", "language.heads"):
        scores = divergence(model, base, module, absolute=False).scores
        assert max(range(6), key=lambda n: float(scores[n].max())) == 3


def test_a_unit_that_was_zero_has_no_relative_divergence(tmp_path: Path) -> None:
    tensors = moved(vlm_tensors(toy_policy(), "pi0"), 0.1)
    tensors["model.language_model.layers.2.mlp.up_proj.weight"][9] = 0.0
    base = open_base(write_base(tmp_path, tensors), "pi0")
    with pytest.raises(BadInput, match=r"row 9 of language\.layers\.2\.mlp\.up_proj\.weight is zero"):
        divergence(toy_policy(), base, "language.mlp", absolute=False)
    assert bool(divergence(toy_policy(), base, "language.mlp", absolute=True).scores[2].isfinite().all())
    model = toy_policy()
    model.get_parameter("language.layers.2.mlp.up_proj.weight")[9] = 0.0  # zero in both has not moved
    assert bool(divergence(model, base, "language.mlp", absolute=False).scores[2].isfinite().all())
