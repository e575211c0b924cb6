"""The width stage: removing channels and heads by their divergence from the base, and a report of what that did."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict

from vla_export.actions import ActionEffect, compare_actions
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.cost import Cost, cost
from vla_export.prune.divergence import HEADS, Divergence, check_base, divergence, layers_with
from vla_export.prune.heads import keep_heads
from vla_export.prune.ranking import Choice, Direction, choose
from vla_export.prune.spec import DivergenceWidth
from vla_export.prune.structure import Structure
from vla_export.prune.width_targets import Target, width_targets
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput

# Channels: a pruned width that is no multiple of the tensor cores' tile can be slower than the unpruned one.
CHANNEL_MULTIPLE = 64


class ModuleWidth(BaseModel):
    """What was removed of one type of module, ``language.mlp`` for example.

    ratio: of the units, as asked for; rounding to hardware widths removes fewer. threshold: the divergence of the last
    unit in the ranking that was to go, None where none was. units_before, units_after: by layer. without_branch:
    linears whose exact branch stays beside a weight of which only that weight was compared with the base.
    """

    model_config = ConfigDict(frozen=True)

    module: str
    ratio: float
    direction: Direction
    basis: str
    threshold: float | None
    units_before: tuple[int, ...]
    units_after: tuple[int, ...]
    without_branch: tuple[str, ...]


class WidthReport(BaseModel):
    """What width pruning did. cost_before, cost_after: by group of modules. effect: actions after it against before.

    base: the directory's name. multiple: what the channels of a layer were rounded up to.
    """

    model_config = ConfigDict(frozen=True)

    base: str
    absolute: bool
    multiple: int
    modules: tuple[ModuleWidth, ...]
    cost_before: dict[str, Cost]
    cost_after: dict[str, Cost]
    effect: ActionEffect


def check_width(model: FlowModel, spec: DivergenceWidth, base: BaseVlm, structure: Structure) -> None:
    """Raise `BadInput` where `prune_width` would for its spec or base, before any work; only headers are read."""
    for stack, layers in structure.stacks.items():
        if any(layer.channels is not None or layer.heads is not None for layer in layers):
            raise BadInput(
                f"--prune {spec}: {stack} has lost channels or heads before, so it cannot be compared with "
                f"--base {base.stored.path}; prune the checkpoint it came from by more, once"
            )
    check_base(model, base, list(width_targets(spec, model, base.family)), structure.origins())


def comparisons(model: FlowModel, spec: DivergenceWidth, family: str) -> int:
    """How many layers `prune_width` compares, each of them once for each of its modules."""
    return sum(len(layers_with(model, module)) for module in width_targets(spec, model, family))


@torch.no_grad()
def prune_width(
    model: FlowModel,
    spec: DivergenceWidth,
    base: BaseVlm,
    structure: Structure,
    held_out: Sequence[Sample],
    flow_steps: int,
    action: Space,
    multiple: int = CHANNEL_MULTIPLE,
    progress: Advance | None = None,
) -> tuple[FlowModel, Structure, WidthReport]:
    """Remove the channels and heads of ``model`` that ``spec`` asks for, in place.

    The units to go are chosen by their divergence from ``base`` alone; ``held_out`` judge what that did to the actions.
    Weights are taken as they are stored, so never within `vla_export.float32.float32`. All modules are compared before
    any is changed.

    structure: what earlier stages left of the policy; returned with what this one leaves. action: the policy's action
    space, for errors in its units. multiple: a layer keeps a multiple of so many channels. progress: called after each
    layer of each module that has been compared, `comparisons` times.

    Raises BadInput where the spec names what the policy has not, the base does not fit, the policy has lost channels or
    heads before, or training froze a module.
    """
    check_width(model, spec, base, structure)
    targets, origins = width_targets(spec, model, base.family), structure.origins()
    found = {module: divergence(model, base, module, spec.absolute, origins, progress) for module in targets}
    before = [sample_actions(model, sample, flow_steps) for sample in held_out]
    cost_before = cost(model, held_out[0], flow_steps)
    modules = []
    for module, target in targets.items():
        whole = module.endswith(f".{HEADS}")
        choice = choose(found[module].scores, target.ratio, target.direction, 1 if whole else multiple)
        modules.append(_module_width(module, target, found[module], choice))
        structure = _recorded(structure, modules[-1], choice.kept)
        keep_units(model, module, choice.kept)
    after = [sample_actions(model, sample, flow_steps) for sample in held_out]
    return (
        model,
        structure,
        WidthReport(
            base=base.stored.path.parent.name,
            absolute=spec.absolute,
            multiple=multiple,
            modules=tuple(modules),
            cost_before=cost_before,
            cost_after=cost(model, held_out[0], flow_steps),
            effect=compare_actions(before, after, action),
        ),
    )


def keep_units(model: FlowModel, module: str, kept: Sequence[Sequence[int]]) -> None:
    """Take all but these units, by layer, out of a module's stack, in place; layers without such units have none kept.

    Keys and values of a stack that another reads stay whole.
    """
    stack, _, kind = module.rpartition(".")
    shared = any(stack in group for group in model.coupled())
    for layer, units in zip(model.stacks()[stack], kept, strict=True):
        if not units:
            continue
        if kind != HEADS:
            if len(units) < channels(layer.mlp):
                keep_channels(layer.mlp, units)
        elif len(units) < layer.attention.heads:
            keep_heads(layer.attention, units, shared)


def _recorded(structure: Structure, width: ModuleWidth, kept: Sequence[Sequence[int]]) -> Structure:
    stack, _, kind = width.module.rpartition(".")
    for layer, units in enumerate(kept):
        if len(units) < width.units_before[layer]:
            record = structure.with_heads if kind == HEADS else structure.with_channels
            structure = record(stack, layer, units)
    return structure


def _module_width(module: str, target: Target, found: Divergence, choice: Choice) -> ModuleWidth:
    return ModuleWidth(
        module=module,
        ratio=target.ratio,
        direction=target.direction,
        basis=target.basis,
        threshold=choice.threshold,
        units_before=tuple(map(len, found.scores)),
        units_after=tuple(map(len, choice.kept)),
        without_branch=found.without_branch,
    )
