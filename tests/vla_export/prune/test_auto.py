"""Depth and a toy of width searched together on a real policy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.toy_policy import ACTION, DEPTH, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.models.blocks import GatedMLP, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi0 import Pi0
from vla_export.prune.auto import AutoReport, Knob, auto_knobs, prune_auto, sharing_copy
from vla_export.prune.base_vlm import open_base
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.depth_knob import depth_knobs
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
    """Of all stacks, as a fraction of the toy policy's."""
    ours, whole = (
        sum(p.numel() for stack in m.stacks().values() for p in stack.parameters()) for m in (model, toy_policy())
    )
    return ours / whole


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
    [("cka", {"channels": 1}), ("gate", {"layers of language to keys and values": 1})],
)
def test_what_does_nothing_goes_and_the_structure_says_so(
    score: DepthScore, beside: dict[str, int], tmp_path: Path
) -> None:
    model, samples = planted(), toy_samples(4)
    whole = sharing_copy(model)
    knobs: dict[str, Knob] = {**depth_knobs(model, score, samples[:2], FLOW_STEPS, 7), "channels": LastChannels()}
    step = AutoPrune(0.65, "flops", score)
    pruned, structure, report = prune_auto(
        model, step, knobs, weights, samples[2:], FLOW_STEPS, ACTION, tmp_path / "state.json", "planted"
    )
    pick = {knob: notches for knob, notches in report.search.pick.plan.items() if notches}
    assert pick == {"layers of language and expert": 2, **beside}
    assert report.search.pick.error < 1e-5
    assert (report.step, report.measure, report.base) == (f"auto:flops=0.65,depth={score}", "flops", None)
    assert weights(pruned) == pytest.approx(report.search.pick.cost)
    assert structure.origins() == {"vision": (0, 1), "language": (0, 2, 3, 5), "expert": (0, 2, 3, 5)}

    answers = sample_actions(pruned, samples[0], FLOW_STEPS)
    apply_structure(whole, structure, "structure")
    assert torch.equal(sample_actions(whole, samples[0], FLOW_STEPS), answers)
    assert report.in_words()[0] == "language lost 1, 4"
    assert AutoReport.model_validate_json(report.model_dump_json()) == report


def test_the_report_says_what_is_left(tmp_path: Path) -> None:
    model, samples = planted(), toy_samples(4)
    knobs: dict[str, Knob] = {**depth_knobs(model, "gate-kv", samples[:2], FLOW_STEPS, 7), "channels": LastChannels()}
    step = AutoPrune(0.7, "flops", "gate-kv")
    pruned, _, report = prune_auto(
        model, step, knobs, weights, samples[2:], FLOW_STEPS, ACTION, tmp_path / "state.json", "planted"
    )
    vision, language, expert = report.stacks
    assert (vision.stack, vision.removed, vision.reduced, vision.kept) == ("vision", (), (), (0, 1))
    assert (vision.channels, vision.heads) == (vision.whole_channels, vision.whole_heads) == ((24, 24), (2, 2))
    assert (expert.stack, expert.kept, expert.channels) == ("expert", tuple(range(DEPTH)), (24,) * DEPTH)
    assert language.kept == tuple(range(DEPTH))
    assert set(language.reduced) >= {1, 4, 5}  # which do nothing, or which nobody reads
    assert language.whole_channels == (32,) * DEPTH
    for n, layer in enumerate(pruned.stacks()["language"]):
        reduced = isinstance(layer, MemoryLayer)
        assert reduced == (n in language.reduced)
        assert language.channels[n] == (0 if reduced else channels(layer.mlp))
        assert language.heads[n] == (0 if reduced else 2)
    assert sum(language.channels) < 32 * (DEPTH - len(language.reduced))
    listed, whole = ", ".join(map(str, language.reduced)), 32 * (DEPTH - len(language.reduced))
    assert report.in_words() == [
        f"language keeps only keys and values of {listed}",
        f"language keeps {sum(language.channels)} of the {whole} channels of the layers left",
    ]


def test_a_base_gives_knobs_for_width_after_those_for_depth(tmp_path: Path) -> None:
    model, samples = toy_policy(), toy_samples(4)
    base = open_base(write_base(tmp_path / "paligemma", moved(vlm_tensors(model, "pi0"), 0.1)), "pi0")
    step = AutoPrune(0.7, "flops", "gate")
    knobs = auto_knobs(model, step, samples[:2], FLOW_STEPS, 7, base)
    alone = auto_knobs(model, step, samples[:2], FLOW_STEPS, 7, None)
    assert list(knobs) == [
        *("layers of language and expert", "layers of language to keys and values"),
        *("tenths of vision.mlp", "tenths of vision.heads", "tenths of language.mlp", "tenths of language.heads"),
    ]
    assert alone == {name: knobs[name] for name in list(knobs)[:2]}
    whole = sharing_copy(model)
    pruned, structure, report = prune_auto(
        model, step, knobs, weights, samples[2:], FLOW_STEPS, ACTION, tmp_path / "state.json", "planted"
    )
    assert report.base == "paligemma"
    assert weights(pruned) <= 0.7 * weights(whole)
    apply_structure(whole, structure, "structure")
    assert torch.equal(sample_actions(whole, samples[0], 2), sample_actions(pruned, samples[0], 2))


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
