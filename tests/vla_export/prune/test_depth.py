"""The depth stage: it finds layers known to do nothing, and reports what it did."""

from __future__ import annotations

import pytest
import torch

from tests.toy_policy import ACTION, DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.models.blocks import GatedMLP
from vla_export.models.pi0 import Pi0
from vla_export.prune.depth import DepthReport, prune_depth
from vla_export.prune.spec import CkaDepth
from vla_export.prune.surgery import remove_layers
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput


def idle(model: Pi0, layers: tuple[int, ...]) -> Pi0:
    """Make layers of both stacks hand their input on unchanged, without removing them."""
    for stack in (model.language, model.expert):
        for index, layer in enumerate(stack):
            if index in layers:
                layer.attention.o_proj.weight.zero_()
                assert isinstance(layer.mlp, GatedMLP)
                layer.mlp.down_proj.weight.zero_()
    return model


def test_layers_that_do_nothing_are_found_and_not_missed() -> None:
    model, report = prune_depth(
        idle(toy_policy(), (2, 3, 5)), CkaDepth(0.5), toy_samples(3), toy_samples(2), FLOW_STEPS, ACTION
    )
    (group,) = report.groups
    assert group.removed == (2, 3, 5)
    assert group.kept == (0, 1, 4)
    assert group.threshold == pytest.approx(1.0)
    assert report.effect.relative_error < 1e-5
    assert [len(stack) for stack in model.stacks().values()] == [2, 3, 3]


def test_the_report_is_consistent_with_the_model_it_leaves() -> None:
    samples = toy_samples(3)
    reference = toy_policy()
    model, report = prune_depth(toy_policy(), CkaDepth(1 / 3), samples, samples, FLOW_STEPS, ACTION)
    (group,) = report.groups
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

    assert report.parameters_before == sum(p.numel() for p in reference.parameters())
    assert report.parameters_after == sum(p.numel() for p in model.parameters())
    before = torch.cat([sample_actions(reference, sample, FLOW_STEPS) for sample in samples])[..., :7]
    remove_layers(reference, {"language": group.removed, "expert": group.removed})
    after = torch.cat([sample_actions(reference, sample, FLOW_STEPS) for sample in samples])[..., :7]
    assert report.effect.relative_error == pytest.approx(float((after - before).norm() / before.norm()), rel=1e-5)
    assert report.effect.relative_error > 1e-3
    assert DepthReport.model_validate_json(report.model_dump_json()) == report


def test_the_last_layer_of_a_group_stays() -> None:
    model = toy_policy()
    remove_layers(model, {name: set(range(1, DEPTH)) for name in ("language", "expert")})
    with pytest.raises(BadInput, match="stack language has a single layer"):
        prune_depth(model, CkaDepth(0.5), toy_samples(1), toy_samples(1), FLOW_STEPS, ACTION)
