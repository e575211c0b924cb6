"""The depth stage: it finds layers known to do nothing, and reports what it did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.toy_policy import CONFIG, DEPTH, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.models.tiny_families import FAMILIES, random_samples
from vla_export.models.blocks import GatedMLP, Layer, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi0 import Pi0
from vla_export.prune.auto import sharing_copy
from vla_export.prune.depth import DepthReport, GroupDepth, ProbedDepth, prune_depth
from vla_export.prune.gate import gate_gradients, sensitivities
from vla_export.prune.published import published_layers
from vla_export.prune.spec import CkaDepth, DepthStep, GateDepth, PublishedDepth, parse_prune
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import remove_layers
from vla_export.sample import Sample, sample_actions
from vla_runtime.errors import BadInput


def idle(model: Pi0, layers: tuple[int, ...]) -> Pi0:
    """Make layers of both stacks hand their input on unchanged, without removing them."""
    for stack in (model.language, model.expert):
        for index in layers:
            silence(list(stack)[index])
    return model


def silence(layer: Layer) -> None:
    """Make one layer hand its input on unchanged."""
    layer.attention.o_proj.weight.zero_()
    assert isinstance(layer.mlp, GatedMLP)
    layer.mlp.down_proj.weight.zero_()


def cut(model: FlowModel, step: DepthStep, *arguments: Any, **more: Any) -> tuple[FlowModel, Structure, DepthReport]:
    """`prune_depth`, whose structure is what it leaves, whatever family the model is of."""
    model, left, report = prune_depth(model, Structure.of(model), step, *arguments, **more)
    assert [len(layers) for layers in left.stacks.values()] == [len(stack) for stack in model.stacks().values()]
    for name, stack in model.stacks().items():
        for layer, kept in zip(stack, left.stacks[name], strict=True):
            assert (kept.kind, kept.memory) == (layer.kind, isinstance(layer, MemoryLayer))
    return model, left, report


def same_actions(model: FlowModel, reference: FlowModel, samples: list[Sample]) -> bool:
    """To 1e-5, relative."""
    found, expected = (torch.cat([sample_actions(m, s, FLOW_STEPS) for s in samples]) for m in (model, reference))
    return bool((found - expected).norm() < 1e-5 * expected.norm())


def test_layers_that_do_nothing_are_found_and_not_missed() -> None:
    model, structure, report = cut(idle(toy_policy(), (2, 3, 5)), CkaDepth(0.5), toy_samples(3), FLOW_STEPS, 7)
    assert structure.origins()["expert"] == structure.origins()["language"] == (0, 1, 4)
    (group,) = report.groups
    assert isinstance(group, GroupDepth)
    assert group.removed == (2, 3, 5)
    assert group.kept == (0, 1, 4)
    assert group.threshold == pytest.approx(1.0)
    assert same_actions(model, idle(toy_policy(), (2, 3, 5)), toy_samples(2))
    assert [len(stack) for stack in model.stacks().values()] == [2, 3, 3]


def test_the_report_is_consistent_with_the_model_it_leaves() -> None:
    samples = toy_samples(3)
    reference = toy_policy()
    model, _, report = cut(toy_policy(), CkaDepth(1 / 3), samples, FLOW_STEPS, 7)
    (group,) = report.groups
    assert isinstance(group, GroupDepth)
    assert len(group.removed) == 2
    assert [stack.stack for stack in group.stacks] == ["language", "expert"]
    for stack in group.stacks:
        assert len(stack.matrix) == DEPTH + 1
        assert list(stack.similarities) == [stack.matrix[n][n + 1] for n in range(DEPTH)]
    language, expert = group.stacks
    assert list(group.similarities) == pytest.approx(
        [(a + b) / 2 for a, b in zip(language.similarities, expert.similarities, strict=True)]
    )
    assert min(group.similarities[layer] for layer in group.removed) == group.threshold
    assert all(group.similarities[layer] <= group.threshold for layer in group.kept if layer > 0)

    assert not same_actions(model, reference, samples)
    remove_layers(reference, {"language": group.removed, "expert": group.removed})
    assert same_actions(model, reference, samples)
    assert DepthReport.model_validate_json(report.model_dump_json()) == report


def test_the_last_layer_of_a_group_stays() -> None:
    model = toy_policy()
    remove_layers(model, {name: set(range(1, DEPTH)) for name in ("language", "expert")})
    with pytest.raises(BadInput, match="stack language has a single layer"):
        cut(model, CkaDepth(0.5), toy_samples(1), FLOW_STEPS, 7)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_gate_finds_layers_that_do_nothing_in_every_family(family: str) -> None:
    model = FAMILIES[family]()
    samples = random_samples(family, 3)
    for stack in (model.stacks()["language"], model.stacks()["expert"]):
        for index in (1, 2):
            silence(list(stack)[index])
    whole = sharing_copy(model)
    model, _, report = cut(model, GateDepth(0.5, keep_memory=False), samples[:2], FLOW_STEPS, 7)
    (group,) = report.groups
    assert isinstance(group, ProbedDepth)
    assert group.removed == (1, 2)
    assert group.target == "sampled"
    assert [group.sensitivities[n] for n in group.removed] == [0.0, 0.0]
    assert min(group.sensitivities[n] for n in group.kept) > 0
    assert report.step == "gate:0.5"
    assert report.fraction == 0.5
    assert same_actions(model, whole, samples)
    assert DepthReport.model_validate_json(report.model_dump_json()) == report


def test_the_gate_takes_demonstrated_actions_where_there_are_any() -> None:
    samples = toy_samples(2)
    actions = [torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    step = GateDepth(0.5, keep_memory=False)
    _, _, report = cut(toy_policy(), step, samples, FLOW_STEPS, 7, actions=actions)
    (group,) = report.groups
    assert isinstance(group, ProbedDepth)
    assert group.target == "demonstrated"
    gradients = gate_gradients(toy_policy(), ("language", "expert"), samples, FLOW_STEPS, 7, actions)
    assert group.sensitivities == pytest.approx(sensitivities(list(gradients.values())))
    assert group.removed == tuple(sorted(sorted(range(DEPTH), key=lambda n: group.sensitivities[n])[:3]))


def test_language_layers_that_do_nothing_can_keep_their_memory() -> None:
    model = toy_policy()
    for index in (1, 4):
        silence(list(model.language)[index])
    whole = sharing_copy(model)
    model, _, report = cut(model, GateDepth(0.5, keep_memory=True), toy_samples(2), FLOW_STEPS, 7)
    (group,) = report.groups
    # Nobody reads what leaves the last layer, so it is the third that costs nothing.
    assert (group.removed, group.reduced) == ((), (1, 4, 5))
    assert [stack.stack for stack in group.stacks] == ["language"]
    assert same_actions(model, whole, toy_samples(2))
    assert [len(stack) for stack in model.stacks().values()] == [2, DEPTH, DEPTH]
    assert [isinstance(layer, MemoryLayer) for layer in model.language] == [n in (1, 4, 5) for n in range(DEPTH)]

    # Half of what is left whole, again.
    model, _, report = cut(model, GateDepth(0.5, keep_memory=True), toy_samples(2), FLOW_STEPS, 7)
    assert len(report.groups[0].reduced) == 2
    assert sum(isinstance(layer, MemoryLayer) for layer in model.language) == 5


@pytest.mark.parametrize("method", ["cka", "gate"])
def test_the_first_stack_can_lose_more_than_those_that_read_it(method: str) -> None:
    (step,) = parse_prune(f"{method}:vlm=0.5,expert=0.33")
    assert isinstance(step, CkaDepth | GateDepth)
    model, _, report = cut(toy_policy(), step, toy_samples(2), FLOW_STEPS, 7)
    (group,) = report.groups
    assert (len(group.removed), len(group.reduced)) == (2, 1)
    assert set(group.reduced) < set(group.kept)
    assert [len(stack) for stack in model.stacks().values()] == [2, 4, 4]
    assert [isinstance(layer, MemoryLayer) for layer in model.language] == [n in group.reduced for n in group.kept]
    assert not any(isinstance(layer, MemoryLayer) for layer in model.expert)


def test_a_stack_in_no_group_loses_layers_where_it_is_named() -> None:
    model, _, report = cut(toy_policy(), CkaDepth({"vision": 0.5}), toy_samples(2), FLOW_STEPS, 7)
    assert [len(stack) for stack in model.stacks().values()] == [1, DEPTH, DEPTH]
    assert report.groups[0].removed == (1,)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cka:expert=0.5", "expert reads language layer by layer and cannot lose more layers than it"),
        ("gate:vlm=0.2,expert=0.5", "expert reads language layer by layer"),
        ("cka:dit=0.5", "no stack dit here; there are vision, language, expert"),
        ("cka:paper", "for a pi0 of 18 layers, this one has 6"),
    ],
)
def test_what_cannot_come_apart_is_refused_before_any_work(spec: str, message: str) -> None:
    (step,) = parse_prune(spec)
    model = toy_policy()
    with pytest.raises(BadInput, match=message):
        cut(model, step, [], FLOW_STEPS, 7, "pi0")  # type: ignore[arg-type]  # depth, all of them
    assert [len(stack) for stack in model.stacks().values()] == [2, DEPTH, DEPTH]


@pytest.mark.parametrize(
    ("family", "depth", "removed"),
    [("pi0", 18, (1, 2, 4, 6, 8, 9)), ("smolvla", 16, (1, 2, 5, 6, 14, 15))],
)
def test_published_lists(family: str, depth: int, removed: tuple[int, ...]) -> None:
    assert published_layers(family, depth) == removed


@pytest.mark.parametrize("family", ["pi05", "openvla"])
def test_a_family_without_a_published_list_is_refused(family: str) -> None:
    with pytest.raises(BadInput, match=f"none for {family}"):
        published_layers(family, 18)


def test_the_published_list_is_what_is_removed() -> None:
    sizes = replace(CONFIG, language=replace(CONFIG.language, depth=18), expert=replace(CONFIG.expert, depth=18))
    model = Pi0(sizes).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    kept = [layer for n, layer in enumerate(model.expert) if n not in (1, 2, 4, 6, 8, 9)]
    model, _, report = cut(model, PublishedDepth(), [], FLOW_STEPS, 7, "pi0")
    assert [id(layer) for layer in model.stacks()["expert"]] == [id(layer) for layer in kept]
    assert len(model.stacks()["language"]) == 12
    assert report.groups[0].method == "paper"
    assert DepthReport.model_validate_json(report.model_dump_json()) == report
