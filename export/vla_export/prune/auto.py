"""Searching depth and width together, and leaving the policy as the search picked it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import compare_actions
from vla_export.models.blocks import Layer, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.channels import channels
from vla_export.prune.depth_knob import depth_knobs
from vla_export.prune.search import Plan, SearchResult, search
from vla_export.prune.spec import AutoPrune, Measure
from vla_export.prune.structure import Structure
from vla_export.prune.width import check_unnarrowed
from vla_export.prune.width_knob import WidthKnob, width_knobs
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput


class Knob(Protocol):
    """One way to prune, by degrees."""

    @property
    def notches(self) -> int:
        """How far it can be turned; 0 prunes nothing."""
        ...

    def apply(self, model: FlowModel, structure: Structure, notches: int) -> Structure:
        """Prune ``model`` in place, of which ``structure`` is left; returns what is left then."""
        ...


class StackLeft(BaseModel):
    """What is left of one stack.

    removed, reduced, kept: layers by index in the whole stack; the reduced ones, among the kept, have only their keys
    and values. channels, heads: of each layer that is kept, 0 of the reduced; the ``whole`` ones before any were taken.
    """

    model_config = ConfigDict(frozen=True)

    stack: str
    removed: tuple[int, ...]
    reduced: tuple[int, ...]
    kept: tuple[int, ...]
    whole_channels: tuple[int, ...]
    channels: tuple[int, ...]
    whole_heads: tuple[int, ...]
    heads: tuple[int, ...]


class AutoReport(BaseModel):
    """What the search did.

    step: as the user asked for it. measure: what its costs are fractions of. base: the name of the directory that
    channels and heads were ranked against, None where only layers could go. stacks: what the pick leaves.
    """

    model_config = ConfigDict(frozen=True)

    step: str
    measure: Measure
    base: str | None
    search: SearchResult
    stacks: tuple[StackLeft, ...]

    def in_words(self) -> list[str]:
        """What the stacks lost: a line for layers, for those that keep keys and values, for channels and for heads."""
        return [line for stack in self.stacks for line in _lost(stack)]


def auto_knobs(
    model: FlowModel,
    step: AutoPrune,
    samples: Sequence[Sample],
    flow_steps: int,
    numbers: int,
    base: BaseVlm | None,
    outer: Structure | None = None,
    actions: Sequence[Tensor] | None = None,
) -> dict[str, Knob]:
    """The knobs of a search, by name, in the order in which they are to be applied: depth, then, given a base, width.

    samples: what layers are scored on. numbers, actions: of `vla_export.prune.gate.gate_gradients`. outer: what the
    policy was cut to before, None for a whole one. Raises `BadInput` for a base as
    `vla_export.prune.width_knob.width_knobs` does, and where channels or heads are gone that the base has.
    """
    if base is not None and outer is not None:
        check_unnarrowed(f"--prune {step}", base, outer)
    width = {}
    if base is not None:
        width = width_knobs(model, base, absolute=False, origins=None if outer is None else outer.origins())
    return {**depth_knobs(model, step.depth, samples, flow_steps, numbers, actions), **width}


def prune_auto(
    model: FlowModel,
    step: AutoPrune,
    knobs: Mapping[str, Knob],
    cost: Callable[[FlowModel], float],
    choosing: Sequence[Sample],
    flow_steps: int,
    action: Space,
    state: Path,
    identity: str,
    progress: Callable[[float], None] | None = None,
) -> tuple[FlowModel, Structure, AutoReport]:
    """Prune ``model``, in place, as a search over ``knobs`` picks, which are applied in their order.

    cost: of a policy, as a fraction of what ``model`` costs. choosing: samples the error is measured on, none of which
    any knob decided by; it is the relative error of `vla_export.actions.ActionEffect`. The plan is chosen by them, so
    what it does to the actions is judged on others. A plan is tried on a copy that shares every tensor it does not cut.
    state, identity, progress: of `vla_export.prune.search.search`.

    Returns the model, what is left of it, and the report. Raises as `search` does.
    """
    if not knobs:
        raise BadInput(f"--prune {step}: this policy has nothing that can be pruned; leave it out")
    units = _units(model)
    before = [sample_actions(model, sample, flow_steps) for sample in choosing]
    known = {_digest(Structure.of(model)): (1.0, 0.0)}

    def measure(plan: Plan) -> tuple[float, float]:
        copied = sharing_copy(model)
        left = _digest(_apply(copied, knobs, plan))
        if left not in known:  # several plans may leave the same
            after = [sample_actions(copied, sample, flow_steps) for sample in choosing]
            known[left] = cost(copied), compare_actions(before, after, action).relative_error
        return known[left]

    found = search(
        {name: knob.notches for name, knob in knobs.items()}, measure, step.target, state, identity, progress
    )
    structure = _apply(model, knobs, found.pick.plan)
    return (
        model,
        structure,
        AutoReport(
            step=str(step),
            measure=step.measure,
            base=next((knob.base for knob in knobs.values() if isinstance(knob, WidthKnob)), None),
            search=found,
            stacks=_left(units, model, structure),
        ),
    )


def _lost(left: StackLeft) -> Iterator[str]:
    if left.removed:
        yield f"{left.stack} lost {', '.join(map(str, left.removed))}"
    if left.reduced:
        yield f"{left.stack} keeps only keys and values of {', '.join(map(str, left.reduced))}"
    for units, whole, kept in (
        ("channels", left.whole_channels, left.channels),
        ("heads", left.whole_heads, left.heads),
    ):
        could = sum(n for layer, n in zip(left.kept, whole, strict=True) if layer not in left.reduced)
        if sum(kept) < could:
            yield f"{left.stack} keeps {sum(kept):,} of the {could:,} {units} of the layers left"


def sharing_copy(model: FlowModel) -> FlowModel:
    """A model of its own modules and the same tensors: to prune the one changes nothing of the other."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _apply(model: FlowModel, knobs: Mapping[str, Knob], plan: Plan) -> Structure:
    structure = Structure.of(model)
    for name, knob in knobs.items():
        if plan[name]:
            structure = knob.apply(model, structure, plan[name])
    return structure


def _digest(structure: Structure) -> str:
    return hashlib.sha256(structure.model_dump_json().encode()).hexdigest()


def _units(model: FlowModel) -> dict[str, list[tuple[int, int]]]:
    """By stack, the channels and heads of each layer; none of one that is only keys and values."""
    return {name: [_units_of(layer) for layer in stack] for name, stack in model.stacks().items()}


def _units_of(layer: Layer) -> tuple[int, int]:
    return (0, 0) if isinstance(layer, MemoryLayer) else (channels(layer.mlp), layer.attention.heads)


def _left(
    whole: Mapping[str, Sequence[tuple[int, int]]], model: FlowModel, structure: Structure
) -> tuple[StackLeft, ...]:
    """whole: `_units` before anything was taken."""
    found = []
    for name, units in _units(model).items():
        layers = structure.stacks[name]
        kept = tuple(layer.layer for layer in layers)
        found.append(
            StackLeft(
                stack=name,
                removed=tuple(n for n in range(len(whole[name])) if n not in kept),
                reduced=tuple(layer.layer for layer in layers if layer.memory),
                kept=kept,
                whole_channels=tuple(whole[name][n][0] for n in kept),
                channels=tuple(n for n, _ in units),
                whole_heads=tuple(whole[name][n][1] for n in kept),
                heads=tuple(n for _, n in units),
            )
        )
    return tuple(found)
