"""The stages that change the model: load, merge, depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.adapters.merge import MergeReport, merge
from vla_export.checkpoints.checkpoint import Checkpoint, Interface
from vla_export.checkpoints.reading import read
from vla_export.float32 import float32
from vla_export.graph.precision import is_large
from vla_export.models.flow_model import FlowModel
from vla_export.observations import Observations, recorded, synthetic
from vla_export.progress import StageProgress
from vla_export.prune.depth import DepthReport, prune_depth
from vla_export.request import ExportRequest
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Precision

# Synthetic observations, half of them held out: more where stages decide by them than where graphs are compared alone.
DECIDING, JUDGING = 16, 4


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
        checkpoint = read(request.checkpoint, request.half)
    interface, model = checkpoint.interface, checkpoint.model
    with progress.stage("observations"):
        observations = _observations(request, interface)
    precisions = request.wanted(is_large(model))
    with float32(model, checkpoint.weights.original):
        original = _answers(model, observations.held_out, interface.flow_steps, progress)
    merged = depth = None
    if request.adapter is not None:
        with progress.stage("merge adapter"):
            model, merged = merge(
                model,
                request.adapter,
                checkpoint.modules,
                request.merge,
                observations.held_out,
                interface.flow_steps,
                interface.action,
            )
    for step in request.prune:
        with progress.stage("remove twin layers (CKA)"):
            model, depth = prune_depth(
                model, step, observations.calibration, observations.held_out, interface.flow_steps, interface.action
            )
    return PreparedPolicy(checkpoint, model, observations, precisions, original, merged, depth)


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
