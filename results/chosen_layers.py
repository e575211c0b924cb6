"""Which layers of the reference policy go: by CKA, by sensitivity, or at random."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import combinations

import torch

from results.chosen_structure import Cut
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.models.flow_model import FlowModel
from vla_export.prune.depth import prune_depth
from vla_export.prune.spec import CkaDepth, DepthStep, GateDepth
from vla_export.prune.structure import Structure
from vla_export.prune.twin_layers import layers_to_remove
from vla_export.sample import Sample

METHODS: Mapping[str, Callable[[float], DepthStep]] = {
    "cka": CkaDepth,
    "gate": partial(GateDepth, keep_memory=False),
    "gate-kv": partial(GateDepth, keep_memory=True),
}
"""By name, as `vla-export --prune` has them."""


@torch.no_grad()
def chosen_layers(policy: Checkpoint, method: str, fraction: float, samples: Sequence[Sample]) -> Cut:
    """What ``vla-export --prune METHOD:FRACTION`` takes out of a π0 where it decides by ``samples``."""
    model, interface = copy.deepcopy(policy.model), policy.interface
    _, structure, _ = prune_depth(
        model,
        Structure.of(model),
        METHODS[method](fraction),
        samples,
        interface.flow_steps,
        len(interface.action.dimensions),
    )
    depth = len(policy.model.stacks()["language"])
    gone = sorted(set(range(depth)) - set(structure.origins()["language"]))
    reduced = [layer.layer for layer in structure.stacks["language"] if layer.memory]
    return _cut(method, None, fraction, depth, gone, reduced, structure)


def random_layers(model: FlowModel, fraction: float, draw: int) -> Cut:
    """As many layers as a method would take, the ``draw``-th in a fixed shuffle of all such sets: no two are the same.

    The first layer is never among them, as in CKA's choices: a blind choice that knows what every published list shows.
    """
    depth = len(model.stacks()["language"])
    count = layers_to_remove(fraction, depth)
    sets = list(combinations(range(1, depth), count))
    random.Random(count).shuffle(sets)
    gone = sets[draw]
    structure = Structure.of(model).without({name: gone for group in model.coupled() for name in group})
    return _cut("random", draw, fraction, depth, gone, (), structure)


def _cut(
    method: str,
    draw: int | None,
    asked: float,
    depth: int,
    gone: Collection[int],
    reduced: Collection[int],
    structure: Structure,
) -> Cut:
    parts = [("layers", gone), ("memory", reduced)]
    words = {
        "layers": "layers {} of language model and expert",
        "memory": "all but keys and values of language layers {}",
    }
    return Cut(
        name="-".join(f"{part}-{'-'.join(map(str, layers))}" for part, layers in parts if layers),
        module="layers",
        method=method,
        draw=draw,
        asked=asked,
        fraction=(len(gone) + len(reduced)) / depth,
        removed="; ".join(words[part].format(", ".join(map(str, layers))) for part, layers in parts if layers),
        structure=structure,
    )
