"""Depth and a toy of width searched together on a real policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.toy_policy import ACTION, DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.models.blocks import GatedMLP, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi0 import Pi0
from vla_export.prune.auto import DepthKnob, depth_knobs, prune_auto, sharing_copy
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.spec import AutoPrune, DepthScore
from vla_export.prune.structure import Structure, apply_structure
from vla_export.prune.surgery import remove_layers
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput

HALVES = 3  # of an MLP's channels, so that each notch is a quarter


class LastChannels:
    """Takes the last quarters of every whole language layer's channels."""

    notches = HALVES

    def apply(self, model: FlowModel, structure: Structure, notches: int) -> Structure:
        for n, layer in enumerate(model.stacks()["language"]):
            if not isinstance(layer, MemoryLayer):
                kept = range(channels(layer.mlp) * (4 - notches) // 4)
                keep_channels(layer.mlp, kept)
                structure = structure.with_channels("language", n, kept)
        return structure


def weights(model: FlowModel) -> float:
    return float(sum(p.numel() for stack in model.stacks().values() for p in stack.parameters()))


def planted() -> Pi0:
    """Layers 1 and 4 of both stacks do nothing, nor does the last quarter of the language model's channels."""
    model = toy_policy()
    for stack in (model.language, model.expert):
        for n, layer in enumerate(stack):
            assert isinstance(layer.mlp, GatedMLP)
            if n in (1, 4):
                layer.attention.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            elif stack is model.language:
                layer.mlp.down_proj.weight[:, 24:] = 0.0
    return model


@pytest.mark.parametrize(
    ("score", "beside"),
    # By gate the last language layer, whose output nobody reads, may become memory, which costs nothing either.
    [("cka", {"channels": 1}), ("gate", {"all but memory of language's layers": 1})],
)
def test_what_does_nothing_goes_and_the_structure_says_so(
    score: DepthScore, beside: dict[str, int], tmp_path: Path
) -> None:
    model, samples = planted(), toy_samples(4)
    whole = sharing_copy(model)
    knobs = {**depth_knobs(model, score, samples[:2], FLOW_STEPS, 7), "channels": LastChannels()}
    step = AutoPrune(0.65, "flops", score)
    pruned, structure, report = prune_auto(
        model, step, knobs, weights, samples[2:], FLOW_STEPS, ACTION, tmp_path / "state.json", "planted"
    )
    pick = {knob: notches for knob, notches in report.search.pick.plan.items() if notches}
    assert pick == {"layers of language and expert": 2, **beside}
    assert report.effect.relative_error < 1e-5
    assert report.step == f"auto:flops=0.65,depth={score}"
    assert weights(pruned) / weights(whole) == pytest.approx(report.search.pick.cost)
    assert report.parameters_before - report.parameters_after == weights(whole) - weights(pruned)
    assert structure.origins() == {"vision": (0, 1), "language": (0, 2, 3, 5), "expert": (0, 2, 3, 5)}

    apply_structure(whole, structure, "structure")
    assert torch.equal(sample_actions(whole, samples[0], 2), sample_actions(pruned, samples[0], 2))


def test_layers_can_keep_their_memory(tmp_path: Path) -> None:
    model, samples = planted(), toy_samples(3)
    knobs = depth_knobs(model, "gate-kv", samples[:2], FLOW_STEPS, 7)
    (knob,) = knobs.values()
    assert knob.order[:3] == (1, 4, 5)  # nobody reads what leaves the last
    assert knob.notches == DEPTH - 1
    step = AutoPrune(0.75, "flops", "gate-kv")
    pruned, structure, report = prune_auto(
        model, step, knobs, weights, samples[2:], FLOW_STEPS, ACTION, tmp_path / "state.json", "planted"
    )
    assert report.effect.relative_error < 1e-6
    reduced = [n for n, layer in enumerate(structure.stacks["language"]) if layer.memory]
    assert reduced == [n for n, layer in enumerate(pruned.stacks()["language"]) if isinstance(layer, MemoryLayer)]
    assert len(pruned.stacks()["expert"]) == DEPTH


def test_by_cka_the_first_layer_stays() -> None:
    (knob,) = depth_knobs(toy_policy(), "cka", toy_samples(2), FLOW_STEPS, 7).values()
    assert sorted(knob.order) == list(range(1, DEPTH))


def test_a_knob_counts_in_the_whole_policys_layers() -> None:
    model = toy_policy()
    remove_layers(model, {"language": {0, 2}, "expert": {0, 2}})
    structure = Structure.of(toy_policy()).without({"language": {0, 2}, "expert": {0, 2}})
    structure = DepthKnob(("language", "expert"), (3, 1), memory=False).apply(model, structure, 1)
    assert structure.origins()["language"] == (1, 4, 5)


def test_a_copy_shares_every_tensor_and_no_module() -> None:
    model = toy_policy()
    copied = sharing_copy(model)
    assert {id(p) for p in copied.parameters()} == {id(p) for p in model.parameters()}
    keep_channels(next(iter(copied.stacks()["language"])).mlp, (0, 1))
    remove_layers(copied, {"language": {3}, "expert": {3}})
    assert [len(stack) for stack in model.stacks().values()] == [2, DEPTH, DEPTH]
    assert channels(next(iter(model.language)).mlp) == 32


def test_a_policy_with_nothing_to_turn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="auto:flops=0.5,depth=gate: this policy has nothing that can be pruned"):
        prune_auto(
            toy_policy(),
            AutoPrune(0.5, "flops", "gate"),
            {},
            weights,
            toy_samples(1),
            FLOW_STEPS,
            ACTION,
            tmp_path / "state.json",
            "",
        )
