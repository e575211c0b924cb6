"""Turning depth by degrees: layers in the order in which they are to go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vla_export.models.flow_model import FlowModel
from vla_export.prune.gate import gate_gradients, sensitivities
from vla_export.prune.spec import DepthScore
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_export.prune.trace import layer_similarities
from vla_export.prune.twin_layers import combined
from vla_export.sample import Sample


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
        """Take ``notches`` layers out of ``model``, in place, of which ``structure`` is left; returns what is left."""
        places = {layer.layer: n for n, layer in enumerate(structure.stacks[self.stacks[0]])}
        indices = {places[layer] for layer in [layer for layer in self.order if layer in places][:notches]}
        if self.memory:
            keep_memory(model, self.stacks[0], indices)
            return structure.remembering(self.stacks[0], indices)
        removed = dict.fromkeys(self.stacks, indices)
        remove_layers(model, removed)
        return structure.without(removed)


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
        return {_whole(g): DepthKnob(g, _order((math.inf, *(-s for s in alike[g][1:]))), False) for g in groups}
    gradients = gate_gradients(model, names, samples, flow_steps, numbers, actions)
    knobs = {}
    for group in groups:
        if score == "gate":
            together = sensitivities([gradients[name] for name in group])
            knobs[_whole(group)] = DepthKnob(group, _order(together), memory=False)
        own = sensitivities([gradients[group[0]]])
        knobs[f"layers of {group[0]} to keys and values"] = DepthKnob(group, _order(own), memory=True)
    return knobs


def _whole(group: Sequence[str]) -> str:
    return f"layers of {' and '.join(group)}"


def _order(scores: Sequence[float]) -> tuple[int, ...]:
    """All indices but that of the highest score, from the lowest; of equals the earlier."""
    return tuple(sorted(range(len(scores)), key=lambda layer: (scores[layer], layer))[:-1])
