"""Turning width by degrees: channels or heads in the order of their divergence from the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.divergence import HEADS, FrozenModule, check_base, divergence
from vla_export.prune.ranking import Direction, choose
from vla_export.prune.structure import Structure
from vla_export.prune.width import CHANNEL_MULTIPLE, keep_units, recorded
from vla_export.prune.width_targets import directions
from vla_runtime.errors import BadInput

TENTHS = 10  # a notch is one of them; the last would leave nothing


@dataclass(frozen=True)
class WidthKnob:
    """The units of one type of module, as ``language.mlp``: a notch is a tenth of those of the layers that are left.

    scores: by layer of the whole policy, (units,); a layer may have none. direction: which go first. multiple: a layer
    keeps a multiple of so many, so that a notch may take fewer than its tenth, or none. base: the name of the directory
    they were compared with.
    """

    module: str
    scores: tuple[Tensor, ...]
    direction: Direction
    multiple: int
    base: str

    @property
    def notches(self) -> int:
        return TENTHS - 1

    def apply(self, model: FlowModel, structure: Structure, notches: int) -> Structure:
        """Narrow ``model``, in place, of which ``structure`` is left: none of these units gone so far, whole layers
        perhaps. Returns what is left then."""
        layers = structure.stacks[self.module.rpartition(".")[0]]
        ranked = [torch.zeros(0) if layer.memory else self.scores[layer.layer] for layer in layers]
        kept = choose(ranked, notches / TENTHS, self.direction, self.multiple).kept
        keep_units(model, self.module, kept)
        return recorded(structure, self.module, tuple(map(len, ranked)), kept)


def width_knobs(
    model: FlowModel,
    base: BaseVlm,
    absolute: bool,
    origins: Mapping[str, Sequence[int]] | None = None,
    progress: Advance | None = None,
) -> dict[str, WidthKnob]:
    """A knob, by name, for each type of module that may be pruned and that training moved, in the published direction.

    Every unit of the policy is compared with the base once, here. A module that training left as it is in the base has
    no ranking and so no knob. Weights are taken as they are stored, so never within `vla_export.float32.float32`.

    absolute, origins, progress: of `vla_export.prune.divergence.divergence`. Raises `BadInput` where the base does not
    fit, and where training left all of these modules as they are.
    """
    published = directions(model)
    check_base(model, base, list(published), origins)
    knobs = {}
    for module, direction in published.items():
        try:
            scores = divergence(model, base, module, absolute, origins, progress).scores
        except FrozenModule:
            continue
        multiple = 1 if module.endswith(f".{HEADS}") else CHANNEL_MULTIPLE
        knobs[f"tenths of {module}"] = WidthKnob(module, scores, direction, multiple, base.stored.path.parent.name)
    if published and not knobs:
        raise BadInput(
            f"--base {base.stored.path}: training left {', '.join(published)} of the policy as they are there, so no "
            "channel or head can be ranked; leave --base out and layers alone are removed"
        )
    return knobs
