"""Channels and heads in the order in which they go, whatever layers are left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.toy_policy import DEPTH, toy_policy, toy_samples
from tests.vla_export.models.tiny_families import smolvla
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.graph.precision import to_half
from vla_export.models.blocks import MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.auto import sharing_copy
from vla_export.prune.base_vlm import BaseVlm, open_base
from vla_export.prune.channels import channels
from vla_export.prune.depth_knob import DepthKnob
from vla_export.prune.spec import DivergenceWidth
from vla_export.prune.structure import Structure, apply_structure
from vla_export.prune.width import prune_width
from vla_export.prune.width_knob import WidthKnob, width_knobs
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput

MODULES = ("vision.mlp", "vision.heads", "language.mlp", "language.heads")
HEADS = ("vision.heads", "language.heads")
TRUNK = ("language", "expert")


def base_of(model: FlowModel, directory: Path, family: str = "pi0") -> BaseVlm:
    kind = "smolvlm" if family == "smolvla" else "paligemma"
    return open_base(write_base(directory, moved(vlm_tensors(model, family), 0.2), kind), family)


def scores(model: FlowModel, module: str, seed: int = 0) -> tuple[Tensor, ...]:
    """As if something had diverged at random."""
    generator = torch.Generator().manual_seed(seed)
    stack, _, kind = module.rpartition(".")
    counts = [channels(layer.mlp) if kind == "mlp" else layer.attention.heads for layer in model.stacks()[stack]]
    return tuple(torch.rand(count, generator=generator, dtype=torch.float64) for count in counts)


@pytest.mark.parametrize(("family", "build"), [("pi0", toy_policy), ("smolvla", smolvla)])
def test_a_notch_removes_what_the_width_stage_would(family: str, build: type[FlowModel], tmp_path: Path) -> None:
    model = build()
    base = base_of(model, tmp_path, family)
    knobs = width_knobs(model, base, absolute=False)
    assert list(knobs) == [f"tenths of {module}" for module in MODULES]
    for module in HEADS:
        found = sharing_copy(model)
        structure = knobs[f"tenths of {module}"].apply(found, Structure.of(found), 4)
        spec = DivergenceWidth(None, {module: 0.4}, absolute=False)
        expected, left, _ = prune_width(build(), spec, base, Structure.of(model))
        assert structure == left
        assert structure != Structure.of(model)
        weights = dict(expected.named_parameters())
        assert all(torch.equal(weight, weights[name]) for name, weight in found.named_parameters())


def test_channels_round_to_the_hardware_tile_and_heads_stay_whole(tmp_path: Path) -> None:
    model = toy_policy()
    knobs = width_knobs(model, base_of(model, tmp_path), absolute=False)
    assert {knob.module: knob.multiple for knob in knobs.values()} == {
        **dict.fromkeys(("vision.mlp", "language.mlp"), 64),
        **dict.fromkeys(HEADS, 1),
    }
    assert {knob.direction for knob in knobs.values()} == {"highest"}
    whole = Structure.of(model)
    assert knobs["tenths of language.mlp"].apply(model, whole, 9) == whole  # a toy has no 64 channels to give
    assert {channels(layer.mlp) for layer in model.language} == {32}


def test_relative_and_absolute_rank_differently(tmp_path: Path) -> None:
    model = toy_policy()
    base = base_of(model, tmp_path)
    relative, absolute = (width_knobs(model, base, absolute=absolute) for absolute in (False, True))
    for name, knob in relative.items():
        assert not torch.equal(torch.cat(knob.scores), torch.cat(absolute[name].scores))


@settings(deadline=None, max_examples=30)
@given(
    module=st.sampled_from(MODULES),
    notches=st.integers(1, 9),
    removed=st.sets(st.integers(0, DEPTH - 1), max_size=DEPTH - 1),
    reduced=st.sets(st.integers(0, DEPTH - 1), max_size=DEPTH),
    highest=st.booleans(),
    multiple=st.integers(1, 8),
)
def test_layers_that_are_gone_are_out_of_the_ranking(
    module: str, notches: int, removed: set[int], reduced: set[int], highest: bool, multiple: int
) -> None:
    whole = toy_policy()
    knob = WidthKnob(module, scores(whole, module), "highest" if highest else "lowest", multiple, "toy")
    model = sharing_copy(whole)
    structure = Structure.of(model)
    if removed:
        structure = DepthKnob(TRUNK, tuple(removed), memory=False).apply(model, structure, len(removed))
    if reduced:
        structure = DepthKnob(TRUNK, tuple(reduced), memory=True).apply(model, structure, len(reduced))
    before = structure
    structure = knob.apply(model, structure, notches)

    stack, _, kind = module.rpartition(".")
    assert structure.origins() == before.origins()
    units = []  # of whole layers that are left: score, whether it is kept
    for layer, left in zip(model.stacks()[stack], structure.stacks[stack], strict=True):
        assert left.memory == isinstance(layer, MemoryLayer)
        if left.memory:
            assert (left.channels, left.heads) == (None, None)
            continue
        own = knob.scores[left.layer].tolist()
        kept = left.channels if kind == "mlp" else left.heads
        kept = tuple(range(len(own))) if kept is None else kept
        assert len(kept) == (channels(layer.mlp) if kind == "mlp" else layer.attention.heads)
        assert len(kept) == len(own) or len(kept) % multiple == 0
        gone = [score for n, score in enumerate(own) if n not in kept]
        units.append((own, gone, [own[n] for n in kept]))
        for score in gone:  # the kept ones of a layer are further from the end that goes than those that went
            assert all((score > other) == highest for other in units[-1][2])
    ranked = sorted((score for own, *_ in units for score in own), reverse=highest)
    wanted = int(notches / 10 * len(ranked) + 0.5)
    assert {score for _, gone, _ in units for score in gone} <= set(ranked[:wanted])

    again = sharing_copy(whole)
    apply_structure(again, structure, "structure")
    (sample,) = toy_samples(1)
    assert torch.equal(*(sample_actions(policy, sample, 2) for policy in (again, model)))


def test_nothing_is_left_to_turn_where_every_layer_is_memory() -> None:
    model = toy_policy()
    knob = WidthKnob("language.mlp", scores(model, "language.mlp"), "highest", 1, "toy")
    structure = DepthKnob(TRUNK, tuple(range(DEPTH)), memory=True).apply(model, Structure.of(model), DEPTH)
    assert knob.apply(model, structure, 5) == structure


def test_to_cut_a_sharing_copy_changes_nothing_of_the_policy_and_copies_nothing_else() -> None:
    model = toy_policy()
    before = {name: (id(weight), weight.clone()) for name, weight in model.named_parameters()}
    copied = sharing_copy(model)
    WidthKnob("language.heads", scores(model, "language.heads"), "highest", 1, "toy").apply(
        copied, Structure.of(copied), 3
    )
    for name, weight in model.named_parameters():
        assert id(weight) == before[name][0]
        assert torch.equal(weight, before[name][1])
    assert [layer.attention.heads for layer in model.language] == [2] * DEPTH
    assert sum(layer.attention.heads for layer in copied.stacks()["language"]) < 2 * DEPTH
    for name, weight in copied.named_parameters():
        cut = ".q_proj." in name or ".o_proj." in name
        assert id(weight) == before[name][0] or (cut and name.startswith("language"))


def test_a_policy_that_is_stored_in_half_is_ranked_and_stays_so(tmp_path: Path) -> None:
    model = toy_policy()
    base = base_of(model, tmp_path)
    for name, weight in model.named_parameters():
        weight.data = to_half(name, weight.data)
    kinds = {name: weight.dtype for name, weight in model.named_parameters()}
    assert torch.float16 in kinds.values()
    knobs = width_knobs(model, base, absolute=False)
    assert list(knobs) == [f"tenths of {module}" for module in MODULES]
    exact = width_knobs(toy_policy(), base, absolute=False)
    for name, knob in knobs.items():
        assert torch.allclose(torch.cat(knob.scores), torch.cat(exact[name].scores), rtol=0.02)
    structure = Structure.of(model)
    for name in ("tenths of vision.heads", "tenths of language.heads"):
        structure = knobs[name].apply(model, structure, 4)
    assert {name: weight.dtype for name, weight in model.named_parameters()} == kinds
    assert sample_actions(model, toy_samples(1)[0], 2).isfinite().all()


def test_what_training_left_alone_has_no_knob(tmp_path: Path) -> None:
    model = toy_policy()
    theirs = vlm_tensors(model, "pi0")
    trained = moved(theirs, 0.1)
    half = {name: trained[name] if "language_model" in name else weight for name, weight in theirs.items()}
    knobs = width_knobs(model, open_base(write_base(tmp_path / "half", half), "pi0"), absolute=False)
    assert list(knobs) == ["tenths of language.mlp", "tenths of language.heads"]
    frozen = open_base(write_base(tmp_path / "frozen", theirs), "pi0")
    with pytest.raises(BadInput, match=r"training left vision\.mlp, .* as they are there.*leave --base out"):
        width_knobs(model, frozen, absolute=False)


def test_a_base_of_another_policy_is_refused(tmp_path: Path) -> None:
    theirs = {name: weight for name, weight in vlm_tensors(toy_policy(), "pi0").items() if "layers.5." not in name}
    with pytest.raises(BadInput, match="is not the PaliGemma that this policy was trained from"):
        width_knobs(toy_policy(), open_base(write_base(tmp_path, theirs), "pi0"), absolute=False)
