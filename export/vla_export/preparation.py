"""The stages that change the model: load, merge, depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.merge import MergeReport, merge
from vla_export.adapters.tensorrt_limit import check_tensorrt
from vla_export.checkpoints.checkpoint import Checkpoint, Interface
from vla_export.checkpoints.reading import read
from vla_export.error_budget import check_error_budget
from vla_export.float32 import float32
from vla_export.graph.precision import is_large
from vla_export.models.flow_model import FlowModel
from vla_export.observations import Observations, recorded, synthetic
from vla_export.progress import StageProgress
from vla_export.prune.depth import DepthReport, prune_depth
from vla_export.request import ExportRequest
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Precision

# Synthetic observations, a third held out: more where stages decide by them than where graphs are compared alone.
DECIDING, JUDGING = 18, 6


@dataclass(frozen=True)
class PreparedPolicy:
    """The policy on its way to the bundle, and what the stages so far reported.

    precisions: the graphs to export, in order. original: the checkpoint's own answers to the held-out samples, from
    the values it holds, before they were rounded and before any stage.
    """

    checkpoint: Checkpoint
    model: FlowModel
    observations: Observations
    precisions: tuple[Precision, ...]
    original: tuple[Tensor, ...]
    merge: MergeReport | None
    depth: DepthReport | None


@torch.no_grad()
def prepare(request: ExportRequest, progress: StageProgress) -> PreparedPolicy:
    """Load the checkpoint, apply the adapter, remove layers: the policy as it will be exported."""
    with progress.stage("load checkpoint"):
        whole = None if request.adapter is None else request.adapter.policy
        checkpoint = read(request.checkpoint, request.half, whole)
    interface, model = checkpoint.interface, checkpoint.model
    with progress.stage("observations"):
        observations = _observations(request, interface)
    precisions = request.wanted(is_large(model))
    with float32(model, checkpoint.weights.original):
        original = _answers(model, observations.held_out, interface.flow_steps, progress)
    merged = depth = None
    if request.adapter is not None:
        merged = _merge(request, request.adapter, checkpoint, observations, progress)
    if request.trt is not None:
        check_tensorrt(model)
    if request.depth is not None:
        with progress.stage(f"remove layers ({request.depth})"):
            model, depth = prune_depth(
                model,
                request.depth,
                observations.calibration,
                observations.held_out,
                interface.flow_steps,
                interface.action,
                checkpoint.family,
            )
    return PreparedPolicy(checkpoint, model, observations, precisions, original, merged, depth)


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


def _observations(request: ExportRequest, interface: Interface) -> Observations:
    if request.calibration is not None:
        return recorded(interface, request.calibration, request.task)
    changes = request.adapter is not None or request.depth is not None
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
