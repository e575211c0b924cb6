"""How far training has moved each channel and head of a policy from its base (arXiv 2606.31382).

A row or column w of a weight that was w' has moved by ‖w - w'‖₂ / ‖w'‖₂, or absolutely by ‖w - w'‖₂.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.attention import Attention
from vla_export.models.blocks import Layer, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.channels import channel_linears
from vla_runtime.errors import BadInput

CHANNELS, HEADS = "mlp", "heads"
# Numbers compared at a time: a weight of Gemma's size would otherwise exist several times over in float32.
_PIECE = 1 << 22


class FrozenModule(BadInput):
    """Training left a module as it is in the base, so nothing of it has diverged."""


@dataclass(frozen=True)
class Divergence:
    """Of one type of module, ``language.mlp`` for example.

    scores: of each unit, by layer, (units,), float64. without_branch: linears with an exact branch, by path, of which
    the weight alone was compared.
    """

    scores: tuple[Tensor, ...]
    without_branch: tuple[str, ...]


@dataclass(frozen=True)
class _Linear:
    """A linear of the policy and its path; ``base``: the path it would have if no layer had been removed."""

    path: str
    module: nn.Linear | RoutedLinear
    base: str

    @property
    def weight(self) -> Tensor:
        """W, as it is without a branch."""
        return self._plain.weight

    @property
    def bias(self) -> Tensor | None:
        """b, or None for none."""
        return self._plain.bias

    @property
    def _plain(self) -> nn.Linear:
        return self.module.base if isinstance(self.module, RoutedLinear) else self.module


def layers_with(model: FlowModel, module: str) -> list[int]:
    """The layers of a module's stack that have any of its units, by index; empty for a module the policy lacks."""
    stack, _, kind = module.rpartition(".")
    layers = model.stacks().get(stack, ())
    return [n for n, layer in enumerate(layers) if _parts(layer, kind)]


def check_base(
    model: FlowModel, base: BaseVlm, modules: Sequence[str], origins: Mapping[str, Sequence[int]] | None = None
) -> None:
    """Raise `BadInput` unless ``base`` has all that `divergence` of these modules compares; reads headers only."""
    origins = origins or {}
    shapes: dict[str, tuple[int, ...]] = {}
    depths: dict[str, int] = {}
    for module in modules:
        stack = module.rpartition(".")[0]
        linears = [linear for layer in _linears(model, module, origins).values() for linear in layer.values()]
        for linear in linears:
            shapes[f"{linear.base}.weight"] = tuple(linear.weight.shape)
            if linear.bias is not None and base.has(f"{linear.base}.bias"):
                shapes[f"{linear.base}.bias"] = tuple(linear.bias.shape)
        if base.layout.whole and stack not in origins:
            depths[f"{linears[0].base}.weight"] = len(model.stacks()[stack])
    base.check(shapes, depths)


@torch.no_grad()
def divergence(
    model: FlowModel,
    base: BaseVlm,
    module: str,
    absolute: bool,
    origins: Mapping[str, Sequence[int]] | None = None,
    progress: Advance | None = None,
) -> Divergence:
    """The divergence of every unit of a module, one layer after the other, one tensor of the base at a time.

    A channel's is the sum of those of its row in each linear that goes in and of its column in the one that comes out.
    A head's is the mean over its rows of the queries and, where several heads share a key head, the mean over the rows
    of the one it reads. Rows include the bias that the base has.

    origins: by stack, the index in the base of each layer, for stacks that have lost some. progress: called after each
    layer of `layers_with`. Raises `FrozenModule` where training did not move the module at all, and `BadInput` for a
    unit that is zero in the base and so has no relative divergence.
    """
    scores, moved, without_branch = [], False, []
    kind = module.rpartition(".")[2]
    every = _linears(model, module, origins or {})
    for index, layer in enumerate(model.stacks()[module.rpartition(".")[0]]):
        linears = every.get(index)
        if linears is None:
            scores.append(torch.zeros(0, dtype=torch.float64))
            continue
        compared = _Comparison(base, linears, absolute)
        scores.append(compared.channels(layer.mlp) if kind == CHANNELS else compared.heads(layer.attention))
        moved |= compared.moved
        without_branch += [linear.path for linear in linears.values() if isinstance(linear.module, RoutedLinear)]
        if progress is not None:
            progress()
    if not moved:
        raise FrozenModule(
            f"--prune divergence: {module} of the policy equals that of --base {base.stored.path}: it was frozen in "
            "training, so nothing can be ranked; name the modules that were trained, as divergence:language.mlp=0.2"
        )
    return Divergence(tuple(scores), tuple(without_branch))


def _parts(layer: Layer, kind: str) -> tuple[str, ...]:
    """The linears, by path in a layer, that its units of a kind are ranked by; none where it has no such units."""
    if isinstance(layer, MemoryLayer):
        return ()
    if kind == CHANNELS:
        inward, outward = channel_linears(layer.mlp)
        return tuple(f"mlp.{name}" for name in (*inward, outward))
    grouped = layer.attention.kv_heads < layer.attention.heads
    return ("attention.q_proj", "attention.k_proj") if grouped else ("attention.q_proj",)


def _linears(model: FlowModel, module: str, origins: Mapping[str, Sequence[int]]) -> dict[int, dict[str, _Linear]]:
    """By layer and by path in it, the linears that a module's units are ranked by."""
    name, _, kind = module.rpartition(".")
    stack = model.stacks()[name]
    path = next(path for path, found in model.named_modules() if found is stack)
    indices = origins.get(name, range(len(stack)))
    found: dict[int, dict[str, _Linear]] = {}
    for n, (layer, index) in enumerate(zip(stack, indices, strict=True)):
        for part in _parts(layer, kind):
            linear = layer.get_submodule(part)
            assert isinstance(linear, nn.Linear | RoutedLinear)
            own = _Linear(f"{path}.layers.{n}.{part}", linear, f"{path}.layers.{index}.{part}")
            found.setdefault(n, {})[part.rpartition(".")[2]] = own
    return found


class _Comparison:
    """Of one layer's linears with the base's. moved: whether any differs by more than rounding."""

    def __init__(self, base: BaseVlm, linears: Mapping[str, _Linear], absolute: bool) -> None:
        self._base, self._linears, self._absolute = base, linears, absolute
        self.moved = False

    def channels(self, mlp: nn.Module) -> Tensor:
        inward, outward = channel_linears(mlp)
        return sum((self._rows(name) for name in inward), start=self._columns(outward))

    def heads(self, attention: Attention) -> Tensor:
        scores = self._rows("q_proj").view(attention.heads, -1).mean(1)
        if "k_proj" in self._linears:
            keys = self._rows("k_proj").view(attention.kv_heads, -1).mean(1)
            scores = scores + keys[attention.reads()]
        return scores

    def _rows(self, name: str) -> Tensor:
        linear = self._linears[name]
        distance, norm = self._squares(linear.weight, f"{linear.base}.weight", axis=1)
        if linear.bias is not None and self._base.has(f"{linear.base}.bias"):
            bias = self._squares(linear.bias[:, None], f"{linear.base}.bias", axis=1)
            distance, norm = distance + bias[0], norm + bias[1]
        return self._divergence(linear, distance, norm, "row")

    def _columns(self, name: str) -> Tensor:
        linear = self._linears[name]
        return self._divergence(linear, *self._squares(linear.weight, f"{linear.base}.weight", axis=0), "column")

    def _divergence(self, linear: _Linear, distance: Tensor, norm: Tensor, what: str) -> Tensor:
        if self._absolute:
            return distance.sqrt()
        lost = (norm == 0) & (distance > 0)
        if lost.any():
            raise BadInput(
                f"--base {self._base.stored.path}: {what} {int(lost.nonzero()[0])} of {linear.base}.weight is zero, so "
                "nothing can diverge from it relatively; rank by the absolute distance, as divergence:light,absolute"
            )
        return torch.where(distance > 0, distance / norm, 0.0).sqrt()

    def _squares(self, own: Tensor, name: str, axis: int) -> tuple[Tensor, Tensor]:
        """‖own - base's‖² and ‖base's‖² along an axis of a matrix, float64; the base's is read, and gone afterwards."""
        base = self._base.read(name).view(own.shape)
        rows = max(1, _PIECE // own.shape[1])
        parts = [self._piece(a, b, axis) for a, b in zip(own.split(rows), base.split(rows), strict=True)]
        distance, norm = (torch.cat(found) if axis else torch.stack(found).sum(0) for found in zip(*parts, strict=True))
        return distance, norm

    def _piece(self, own: Tensor, base: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        base = base.to(own.dtype)  # what was rounded of the policy is rounded of its base, and is no difference
        # Projects store a frozen model in bfloat16 and release it in float32.
        self.moved = self.moved or not torch.equal(own.bfloat16(), base.bfloat16())
        was = base.float()
        distance, norm = (torch.linalg.vector_norm(part, dim=axis).double() for part in (own.float() - was, was))
        return distance.square(), norm.square()
