"""The width stage: removing channels and heads by their divergence from the base, and a report of what that did."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict

from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.divergence import HEADS, Divergence, check_base, divergence, layers_with
from vla_export.prune.heads import keep_heads
from vla_export.prune.ranking import Choice, Direction, choose
from vla_export.prune.spec import DivergenceWidth
from vla_export.prune.structure import Structure
from vla_export.prune.width_targets import Target, width_targets
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
    """What width pruning did.

    base: the directory's name. multiple: what the channels of a layer were rounded up to.
    """

    model_config = ConfigDict(frozen=True)

    base: str
    absolute: bool
    multiple: int
    modules: tuple[ModuleWidth, ...]

    def in_words(self) -> list[str]:
        """What each type of module lost."""
        return [
            f"{module.module} lost {sum(module.units_before) - sum(module.units_after):,} of "
            f"{sum(module.units_before):,}, {module.direction} divergence first"
            for module in self.modules
        ]


def check_width(model: FlowModel, spec: DivergenceWidth, base: BaseVlm, left: Structure | None) -> None:
    """Raise `BadInput` where `prune_width` would for its spec or base, before any work; only headers are read.

    left: what is left of the policy that was trained from the base, None for all of it.
    """
    if left is not None:
        check_unnarrowed(f"--prune {spec}", base, left)
    targets = list(width_targets(spec, model, base.family))
    check_base(model, base, targets, None if left is None else left.origins())


def check_unnarrowed(flag: str, base: BaseVlm, left: Structure) -> None:
    """Raise `BadInput` where layers have lost channels or heads, and so have no counterpart in the base."""
    for stack, layers in left.stacks.items():
        if any(layer.channels is not None or layer.heads is not None for layer in layers):
            raise BadInput(
                f"{flag}: {stack} has lost channels or heads before, so it cannot be compared with "
                f"--base {base.stored.path}; prune the checkpoint it came from by more, once"
            )


def comparisons(model: FlowModel, spec: DivergenceWidth, family: str) -> int:
    """How many layers `prune_width` compares, each of them once for each of its modules."""
    return sum(len(layers_with(model, module)) for module in width_targets(spec, model, family))


@torch.no_grad()
def prune_width(
    model: FlowModel,
    spec: DivergenceWidth,
    base: BaseVlm,
    structure: Structure,
    outer: Structure | None = None,
    progress: Advance | None = None,
    multiple: int = CHANNEL_MULTIPLE,
) -> tuple[FlowModel, Structure, WidthReport]:
    """Remove the channels and heads of ``model`` that ``spec`` asks for, in place.

    The units to go are chosen by their divergence from ``base`` alone. Weights are taken as they are stored, so never
    within `vla_export.float32.float32`. All modules are compared before any is changed.

    structure: what earlier stages left of the policy; returned with what this one leaves. outer: what the policy that
    they began with was cut to before, None where it was whole. multiple: a layer keeps a multiple of so many channels.
    progress: called after each layer of each module that has been compared, `comparisons` times.

    Raises BadInput where the spec names what the policy has not, the base does not fit, the policy has lost channels or
    heads before, or training froze a module.
    """
    left = structure if outer is None else structure.within(outer)
    check_width(model, spec, base, left)
    targets, origins = width_targets(spec, model, base.family), left.origins()
    found = {module: divergence(model, base, module, spec.absolute, origins, progress) for module in targets}
    modules = []
    for module, target in targets.items():
        whole = module.endswith(f".{HEADS}")
        choice = choose(found[module].scores, target.ratio, target.direction, 1 if whole else multiple)
        modules.append(_module_width(module, target, found[module], choice))
        structure = recorded(structure, module, modules[-1].units_before, choice.kept)
        keep_units(model, module, choice.kept)
    return (
        model,
        structure,
        WidthReport(
            base=base.stored.path.parent.name,
            absolute=spec.absolute,
            multiple=multiple,
            modules=tuple(modules),
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


def recorded(
    structure: Structure, module: str, units_before: Sequence[int], kept: Sequence[Sequence[int]]
) -> Structure:
    """After `keep_units` of the same units, of a stack whose layers had ``units_before`` of them."""
    stack, _, kind = module.rpartition(".")
    for layer, (before, units) in enumerate(zip(units_before, kept, strict=True)):
        if len(units) < before:
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
