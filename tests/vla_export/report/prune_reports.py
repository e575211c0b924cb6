"""Reports of pruning toy policies, each in a way of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.actions import compare_actions
from vla_export.error_budget import action_errors
from vla_export.models.flow_model import FlowModel
from vla_export.prune.auto import AutoReport, auto_knobs, prune_auto
from vla_export.prune.base_vlm import BaseVlm, open_base
from vla_export.prune.cost import cost
from vla_export.prune.depth import DepthReport, prune_depth
from vla_export.prune.latency import LatencyReport
from vla_export.prune.prune import PruneReport
from vla_export.prune.spec import AutoPrune, DepthStep, DivergenceWidth, parse_prune
from vla_export.prune.structure import Structure
from vla_export.prune.width import WidthReport, prune_width
from vla_export.sample import sample_actions

LATENCY = LatencyReport.of("ONNX Runtime 1.20, CPU", "fp32", (15.0, 14.8, 15.2), (10.0, 10.4, 9.5))


@cache
def pruned(*specs: str, with_base: bool = True) -> PruneReport:
    """What ``--prune`` of these did to the toy policy; channels may become any number of them."""
    model: FlowModel = toy_policy()
    sample = toy_samples(5)[0]
    reference = [sample_actions(model, sample, FLOW_STEPS)]
    before, structure = cost(model, sample, FLOW_STEPS), Structure.of(model)
    depth: DepthReport | None = None
    width: WidthReport | None = None
    auto: AutoReport | None = None
    steps = parse_prune(*specs)
    with TemporaryDirectory() as name:
        directory = Path(name) / "paligemma"
        base = open_base(write_base(directory, moved(vlm_tensors(model, "pi0"), 0.3)), "pi0")
        for step in steps:
            if isinstance(step, AutoPrune):
                model, auto = _searched(model, step, base if with_base else None, directory)
            elif isinstance(step, DivergenceWidth):
                model, structure, width = prune_width(model, step, base, structure, multiple=4)
            else:
                model, structure, depth = _without_layers(model, structure, step)
    after = [sample_actions(model, sample, FLOW_STEPS)]
    return PruneReport(
        steps=tuple(map(str, steps)),
        depth=depth,
        width=width,
        auto=auto,
        modules_before=before,
        modules_after=cost(model, sample, FLOW_STEPS),
        effect=compare_actions(reference, after, ACTION),
        errors=action_errors(reference, after, ACTION),
    )


def _without_layers(
    model: FlowModel, structure: Structure, step: DepthStep
) -> tuple[FlowModel, Structure, DepthReport]:
    samples = toy_samples(5)
    return prune_depth(model, structure, step, samples[1:3], FLOW_STEPS, len(ACTION.dimensions), "pi0")


def _searched(model: FlowModel, step: AutoPrune, base: BaseVlm | None, directory: Path) -> tuple[FlowModel, AutoReport]:
    samples = toy_samples(5)
    knobs = auto_knobs(model, step, samples[1:3], FLOW_STEPS, len(ACTION.dimensions), base)

    whole = _weights(model)

    def weights(pruned: FlowModel) -> float:
        return _weights(pruned) / whole

    model, _, report = prune_auto(
        model, step, knobs, weights, samples[3:], FLOW_STEPS, ACTION, directory / "state.json", "toy"
    )
    return model, report


def _weights(model: FlowModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
