"""Which channels and heads of the reference policy go: those that moved farthest from the base VLM, least, or any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from results.chosen_structure import Cut
from vla_export.models.flow_model import FlowModel
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.channels import channels
from vla_export.prune.divergence import HEADS, divergence
from vla_export.prune.ranking import Direction, choose
from vla_export.prune.structure import Structure
from vla_export.prune.width import recorded

MODULES = ("language.mlp", "language.heads")
"""Of the reference policy; where a vision tower has more of them, it has a convolutional stem."""

Method = Literal["high", "low"]
DIRECTIONS: dict[Method, Direction] = {"high": "highest", "low": "lowest"}


def diverged_units(model: FlowModel, base: BaseVlm, module: str, ratio: float, method: Method) -> Cut:
    """The units of highest or lowest divergence (arXiv 2606.31382), ranked over all layers."""
    scores = divergence(model, base, module, absolute=False).scores
    return _cut(model, module, scores, ratio, DIRECTIONS[method], method, None)


def random_units(model: FlowModel, module: str, ratio: float, draw: int) -> Cut:
    """As many units of all layers, blindly; at one draw, those of a higher ratio are those of a lower one and more."""
    generator = torch.Generator().manual_seed(draw)
    scores = [torch.rand(count, generator=generator) for count in _units(model, module)]
    return _cut(model, module, scores, ratio, "highest", "random", draw)


def _units(model: FlowModel, module: str) -> list[int]:
    stack, _, kind = module.rpartition(".")
    layers = list(model.stacks()[stack])
    return [layer.attention.heads if kind == HEADS else channels(layer.mlp) for layer in layers]


def _cut(
    model: FlowModel,
    module: str,
    scores: Sequence[Tensor],
    ratio: float,
    direction: Direction,
    method: str,
    draw: int | None,
) -> Cut:
    # `vla-export` rounds channels to what hardware likes: in layers of 256 that would undo most of the choice.
    kept = choose(scores, ratio, direction, multiple=1).kept
    before = [len(layer) for layer in scores]
    gone = sum(before) - sum(map(len, kept))
    words = "heads" if module.endswith(f".{HEADS}") else "channels"
    return Cut(
        name="-".join(map(str, (module, method, *(() if draw is None else (draw,)), ratio))),
        module=module,
        method=method,
        draw=draw,
        asked=ratio,
        fraction=gone / sum(before),
        removed=f"{gone} of {sum(before)} {words}",
        structure=recorded(Structure.of(model), module, before, kept),
    )
