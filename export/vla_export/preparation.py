"""The stages that change the model: load, merge, prune."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.merge import MergeReport, merge
from vla_export.adapters.tensorrt_limit import check_tensorrt
from vla_export.checkpoints.checkpoint import Checkpoint, Interface
from vla_export.checkpoints.reading import read
from vla_export.error_budget import check_error_budget, within
from vla_export.float32 import float32
from vla_export.graph.precision import is_large
from vla_export.models.flow_model import FlowModel
from vla_export.observations import Observations, recorded, synthetic
from vla_export.progress import StageProgress
from vla_export.prune.base_vlm import open_base
from vla_export.prune.latency import Stopwatch
from vla_export.prune.prune import PruneReport, Pruning, prune
from vla_export.prune.pruned_checkpoint import check_place, read_structure, write_pruned_checkpoint
from vla_export.prune.spec import AutoPrune
from vla_export.request import ExportRequest
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.bundle import sha256
from vla_runtime.bundle.manifest import Precision

# Synthetic observations, a third held out: more where stages decide by them than where graphs are compared alone.
DECIDING, JUDGING = 18, 6


@dataclass(frozen=True)
class PreparedPolicy:
    """The policy on its way to the bundle, and what the stages so far reported.

    precisions: the graphs to export, in order. original: the checkpoint's own answers to the held-out samples, from
    the values it holds, before they were rounded and before any stage. stopwatch: holds the graphs from before pruning,
    None without pruning. beyond_budget: a stage moved the actions further than its budget, by force.
    """

    checkpoint: Checkpoint
    model: FlowModel
    observations: Observations
    precisions: tuple[Precision, ...]
    original: tuple[Tensor, ...]
    merge: MergeReport | None
    prune: PruneReport | None
    stopwatch: Stopwatch | None
    beyond_budget: bool


@torch.no_grad()
def prepare(request: ExportRequest, progress: StageProgress, ending: ExitStack) -> PreparedPolicy:
    """Load the checkpoint, apply the adapter, prune: the policy as it will be exported.

    ending: closes, with the export, what it needs for a while.
    """
    with progress.stage("load checkpoint"):
        whole = None if request.adapter is None else request.adapter.policy
        checkpoint = read(request.checkpoint, request.half, whole)
    interface, model = checkpoint.interface, checkpoint.model
    with progress.stage("observations"):
        observations = _observations(request, interface)
    precisions = request.wanted(is_large(model))
    with float32(model, checkpoint.weights.original):
        original = _answers(model, observations.held_out, interface.flow_steps, progress)
    merged = pruned = stopwatch = None
    if request.adapter is not None:
        merged = _merge(request, request.adapter, checkpoint, observations, progress)
    if request.trt is not None:
        check_tensorrt(model)
    if request.prune:
        stopwatch = ending.enter_context(_stopwatch(request, checkpoint, observations, precisions, progress))
        model, pruned = _prune(request, checkpoint, observations, stopwatch, progress)
    beyond = merged is not None and not merged.within_budget
    if pruned is not None and request.prune_budget is not None:
        beyond = beyond or not within(pruned.errors, request.prune_budget)
    return PreparedPolicy(checkpoint, model, observations, precisions, original, merged, pruned, stopwatch, beyond)


def _merge(
    request: ExportRequest,
    adapter: Adapter,
    checkpoint: Checkpoint,
    observations: Observations,
    progress: StageProgress,
) -> MergeReport:
    report = merge(
        checkpoint.model,
        adapter,
        checkpoint.modules,
        request.merge,
        observations,
        checkpoint.interface.flow_steps,
        checkpoint.interface.action,
        progress,
        budget=request.budget,
        original=checkpoint.weights.original,
    )
    if not request.force:
        remedy = "merge what may be merged with --merge auto"
        check_error_budget(f"--merge {request.merge}", report.errors, request.budget, remedy)
    return report


def _stopwatch(
    request: ExportRequest,
    checkpoint: Checkpoint,
    observations: Observations,
    precisions: Sequence[Precision],
    progress: StageProgress,
) -> Stopwatch:
    """Of the first precision that the bundle will have, int8 aside, whose graphs are made of fp32 ones."""
    if request.save_pruned is not None:
        check_place(checkpoint, checkpoint.model, request.save_pruned)
    directory = request.output.parent
    directory.mkdir(parents=True, exist_ok=True)
    precision: Precision = next((precision for precision in precisions if precision != "int8"), "fp32")
    flow_steps = checkpoint.interface.flow_steps
    with progress.stage("graphs before pruning", 2) as advance:
        return Stopwatch(checkpoint.model, observations.held_out[0], flow_steps, precision, directory, advance)


def _prune(
    request: ExportRequest,
    checkpoint: Checkpoint,
    observations: Observations,
    stopwatch: Stopwatch,
    progress: StageProgress,
) -> tuple[FlowModel, PruneReport]:
    family, interface, output = checkpoint.family, checkpoint.interface, request.output
    cut = read_structure(checkpoint.root)
    pruning = Pruning(
        steps=request.prune,
        base=None if request.base is None else open_base(request.base, family),
        outer=None if cut is None else cut.structure,
        state=output.with_name(f"{output.name}.search.json"),
        identity=_identity(request, checkpoint, observations),
        stopwatch=stopwatch,
    )
    model, structure, report = prune(checkpoint.model, pruning, observations, interface, family, progress)
    if request.prune_budget is not None and not request.force:
        flag = f"--prune {','.join(report.steps)}"
        check_error_budget(flag, report.errors, request.prune_budget, "prune less")
    if request.save_pruned is not None:
        with progress.stage("write pruned checkpoint"):
            write_pruned_checkpoint(checkpoint, model, structure, request.save_pruned)
    return model, report


def _identity(request: ExportRequest, checkpoint: Checkpoint, observations: Observations) -> str:
    """What the measurements of a search depend on, its target left out."""
    parts = [checkpoint.sha256, observations.source]
    if request.adapter is not None:
        parts += [sha256(request.adapter.path), request.merge, f"{request.budget:g}"]
    if request.base is not None:
        parts.append(str(request.base.resolve()))
    parts += [f"{step.measure}, {step.depth}" for step in request.prune if isinstance(step, AutoPrune)]
    return "; ".join(parts)


def _observations(request: ExportRequest, interface: Interface) -> Observations:
    if request.calibration is not None:
        return recorded(interface, request.calibration, request.task)
    changes = request.adapter is not None or bool(request.prune)
    return synthetic(interface, DECIDING if changes else JUDGING, task=request.task)


def _answers(
    model: FlowModel, samples: Sequence[Sample], flow_steps: int, progress: StageProgress
) -> tuple[Tensor, ...]:
    answers = []
    with progress.stage("the checkpoint's own actions", len(samples)) as advance:
        for sample in samples:
            answers.append(sample_actions(model, sample, flow_steps))
            advance()
    return tuple(answers)
