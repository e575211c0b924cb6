"""The depth stage: removing twin layers, and a report of what that did."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from vla_export.actions import ActionEffect, compare_actions
from vla_export.models.flow_model import FlowModel
from vla_export.prune.spec import CkaDepth
from vla_export.prune.surgery import remove_layers
from vla_export.prune.trace import layer_similarities
from vla_export.prune.twin_layers import layers_to_remove, select_twins
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput


class StackSimilarity(BaseModel):
    """How alike one stack's L layers were before any was removed.

    matrix: CKA between hidden states, (L + 1) by (L + 1), place 0 being the embedding. similarities: its L entries next
    to the diagonal; entry l compares what enters layer l (from 0) with what leaves it.
    """

    model_config = ConfigDict(frozen=True)

    stack: str
    matrix: tuple[tuple[float, ...], ...]
    similarities: tuple[float, ...]


class GroupDepth(BaseModel):
    """What was removed from stacks that must lose the same layers, by index from 0.

    similarities: the mean of the stacks' own, from which the layers were chosen. threshold: the lowest similarity τ
    that had to count as a twin.
    """

    model_config = ConfigDict(frozen=True)

    stacks: tuple[StackSimilarity, ...]
    similarities: tuple[float, ...]
    threshold: float
    removed: tuple[int, ...]
    kept: tuple[int, ...]


class DepthReport(BaseModel):
    """What depth pruning did. parameters: of the whole model. effect: actions after it against those before."""

    model_config = ConfigDict(frozen=True)

    fraction: float
    groups: tuple[GroupDepth, ...]
    parameters_before: int
    parameters_after: int
    effect: ActionEffect


def prune_depth(
    model: FlowModel,
    spec: CkaDepth,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    flow_steps: int,
    action: Space,
) -> tuple[FlowModel, DepthReport]:
    """Remove ``spec.fraction`` of the layers of each coupled group of ``model``, in place.

    ``samples`` decide which layers go, ``held_out`` judge what that did to the actions.

    A coupled group loses one set of indices, chosen by the mean of its stacks' similarities, so that no stack's
    redundancy outweighs another's. Stacks in no group are left alone. action: the policy's action space, for errors in
    its units.

    Raises BadInput where a group has a single layer or the model has no group.
    """
    if not model.coupled():
        raise BadInput("--prune cka: this policy has no stacks whose depth can be reduced; leave it out")
    stacks = model.stacks()
    before = [sample_actions(model, sample, flow_steps) for sample in held_out]
    parameters_before = _parameters(model)
    groups = tuple(
        _choose(model, group, spec.fraction, len(stacks[group[0]]), samples, flow_steps) for group in model.coupled()
    )
    remove_layers(model, {stack.stack: group.removed for group in groups for stack in group.stacks})
    after = [sample_actions(model, sample, flow_steps) for sample in held_out]
    return model, DepthReport(
        fraction=spec.fraction,
        groups=groups,
        parameters_before=parameters_before,
        parameters_after=_parameters(model),
        effect=compare_actions(before, after, action),
    )


def _choose(
    model: FlowModel, names: tuple[str, ...], fraction: float, depth: int, samples: Sequence[Sample], flow_steps: int
) -> GroupDepth:
    if depth < 2:
        raise BadInput(f"--prune cka: stack {names[0]} has a single layer; nothing can be removed")
    matrices = layer_similarities(model, names, samples, flow_steps)
    similarities = torch.stack([matrix.diagonal(1) for matrix in matrices.values()]).mean(0).tolist()
    selection = select_twins(similarities, layers_to_remove(fraction, depth))
    return GroupDepth(
        stacks=tuple(
            StackSimilarity(
                stack=name,
                matrix=tuple(map(tuple, matrix.tolist())),
                similarities=tuple(matrix.diagonal(1).tolist()),
            )
            for name, matrix in matrices.items()
        ),
        similarities=tuple(similarities),
        threshold=selection.threshold,
        removed=selection.removed,
        kept=selection.kept,
    )


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
