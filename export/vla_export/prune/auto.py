"""Searching depth and width together, and leaving the policy as the search picked it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import ActionEffect, compare_actions
from vla_export.models.flow_model import FlowModel
from vla_export.prune.gate import gate_gradients, sensitivities
from vla_export.prune.search import Plan, SearchResult, search
from vla_export.prune.spec import AutoPrune, DepthScore
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_export.prune.trace import layer_similarities
from vla_export.prune.twin_layers import combined
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


@dataclass(frozen=True)
class DepthKnob:
    """Layers of coupled stacks, a notch each.

    order: indices in the whole policy, those to go first in front; what other knobs have removed does not count.
    memory: whether the first stack keeps their keys and values, and the others keep their layers.
    """

    stacks: tuple[str, ...]
    order: tuple[int, ...]
    memory: bool

    @property
    def notches(self) -> int:
        return len(self.order)

    def apply(self, model: FlowModel, structure: Structure, notches: int) -> Structure:
        places = {layer.layer: n for n, layer in enumerate(structure.stacks[self.stacks[0]])}
        indices = {places[layer] for layer in [layer for layer in self.order if layer in places][:notches]}
        if self.memory:
            keep_memory(model, self.stacks[0], indices)
            return structure.remembering(self.stacks[0], indices)
        removed = dict.fromkeys(self.stacks, indices)
        remove_layers(model, removed)
        return structure.without(removed)


class AutoReport(BaseModel):
    """What the search did. step: as the user asked for it. effect: the pick's actions against those before."""

    model_config = ConfigDict(frozen=True)

    step: str
    search: SearchResult
    parameters_before: int
    parameters_after: int
    effect: ActionEffect


def depth_knobs(
    model: FlowModel,
    score: DepthScore,
    samples: Sequence[Sample],
    flow_steps: int,
    numbers: int,
    actions: Sequence[Tensor] | None = None,
) -> dict[str, DepthKnob]:
    """Knobs for the depth of each coupled group, by name, in the order of a score of the whole policy's layers.

    By CKA and by gate a notch takes a layer out of all of them; by gate there is another knob, by gate-kv only that,
    whose notches leave a layer of the first its keys and values. One layer always stays; by CKA it is the first.

    numbers, actions: of `vla_export.prune.gate.gate_gradients`.
    """
    groups = model.coupled()
    names = [name for group in groups for name in (group[:1] if score == "gate-kv" else group)]
    if score == "cka":
        matrices = layer_similarities(model, names, samples, flow_steps)
        alike = {g: combined({name: matrices[name].diagonal(1).tolist() for name in g}) for g in groups}
        return {_layers_of(g): DepthKnob(g, _order((math.inf, *(-s for s in alike[g][1:]))), False) for g in groups}
    gradients = gate_gradients(model, names, samples, flow_steps, numbers, actions)
    knobs = {}
    for group in groups:
        if score == "gate":
            together = sensitivities([gradients[name] for name in group])
            knobs[_layers_of(group)] = DepthKnob(group, _order(together), memory=False)
        own = sensitivities([gradients[group[0]]])
        knobs[f"all but memory of {group[0]}'s layers"] = DepthKnob(group, _order(own), memory=True)
    return knobs


def _layers_of(group: Sequence[str]) -> str:
    return f"layers of {' and '.join(group)}"


def _order(scores: Sequence[float]) -> tuple[int, ...]:
    """All indices but that of the highest score, from the lowest; of equals the earlier."""
    return tuple(sorted(range(len(scores)), key=lambda layer: (scores[layer], layer))[:-1])


def prune_auto(
    model: FlowModel,
    step: AutoPrune,
    knobs: Mapping[str, Knob],
    cost: Callable[[FlowModel], float],
    held_out: Sequence[Sample],
    flow_steps: int,
    action: Space,
    state: Path,
    identity: str,
    progress: Callable[[float], None] | None = None,
) -> tuple[FlowModel, Structure, AutoReport]:
    """Prune ``model``, in place, as a search over ``knobs`` picks, which are applied in their order.

    cost: of a policy, in any unit. held_out: samples the error is measured on, none of which any knob decided by; it is
    the relative error of `vla_export.actions.ActionEffect`. A plan is tried on a copy that shares every tensor it does
    not cut. state, identity, progress: of `vla_export.prune.search.search`.

    Returns the model, what is left of it, and the report. Raises as `search` does.
    """
    if not knobs:
        raise BadInput(f"--prune {step}: this policy has nothing that can be pruned; leave it out")
    before = [sample_actions(model, sample, flow_steps) for sample in held_out]
    whole = cost(model)
    parameters_before = _parameters(model)

    def effect(pruned: FlowModel) -> ActionEffect:
        return compare_actions(before, [sample_actions(pruned, sample, flow_steps) for sample in held_out], action)

    known: dict[str, tuple[float, float]] = {}

    def measure(plan: Plan) -> tuple[float, float]:
        copied = sharing_copy(model)
        left = _apply(copied, knobs, plan).model_dump_json()
        if left not in known:  # several plans may leave the same
            known[left] = cost(copied) / whole, effect(copied).relative_error
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
            search=found,
            parameters_before=parameters_before,
            parameters_after=_parameters(model),
            effect=effect(model),
        ),
    )


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


def _parameters(model: FlowModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
