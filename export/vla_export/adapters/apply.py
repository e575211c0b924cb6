"""Putting an adapter on the linears it was trained for, with nothing left out and nothing approximated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from vla_export.adapters.adapter import Adapter, LinearUpdate
from vla_export.adapters.folding import fold, folds
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.graph.precision import to_half
from vla_export.models.flow_model import FlowModel
from vla_runtime.errors import BadInput

# Rounding to bfloat16 moves a weight by at most 2^-9 of its norm; VLA-GSE's training takes several times as much out.
_SAME_WEIGHT = 2.0**-9


class AppliedLayer(BaseModel):
    """One linear that an adapter changed.

    source: its path in the training project's policy. path: in the model. folded: whether W itself changed. bank:
    directions of the branch beside it, 0 without one. parameters: numbers that this branch added.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    path: str
    in_features: int
    out_features: int
    folded: bool
    bank: int
    parameters: int


@torch.no_grad()
def apply_exact(
    model: FlowModel,
    adapter: Adapter,
    modules: Mapping[str, str],
    original: Callable[[str], Tensor] | None = None,
) -> list[AppliedLayer]:
    """Fold what every input gets into the weights, in place, and put a `RoutedLinear` where a branch depends on it.

    All linears are checked before any is changed. Weights are folded in float32 and then rounded to what they were.

    modules: path of each linear in the training project's policy → its path in ``model``. original: by a parameter's
    name, the value it had before the model was turned to half precision, so that it is rounded once.

    Raises BadInput where an update matches no linear, does not fit the linear it matches, was trained on other weights
    than the policy's, or that linear already has a branch; WorkFailed, the model then being of no more use, where
    float16 cannot hold what a weight becomes.
    """
    targets = {source: _target(model, adapter, source, modules) for source in adapter.updates}
    sources: dict[str, str] = {}
    for source, (path, linear) in targets.items():
        if path in sources:
            raise BadInput(f"adapter {adapter.path}: {source} and {sources[path]} are both the linear {path}; keep one")
        sources[path] = source
        _check_weight(adapter, source, linear)
    return [
        _put(model, source, path, linear, adapter.updates[source], original)
        for source, (path, linear) in targets.items()
    ]


def _put(
    model: FlowModel,
    source: str,
    path: str,
    linear: nn.Linear,
    update: LinearUpdate,
    original: Callable[[str], Tensor] | None,
) -> AppliedLayer:
    name = f"{path}.weight"
    if folds(update):
        folded = fold(linear.weight if original is None else original(name), update)
        rounded = to_half(name, folded) if linear.weight.dtype is torch.float16 else folded.to(linear.weight.dtype)
        linear.weight = nn.Parameter(rounded, requires_grad=False)
    if update.branch is not None:
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, RoutedLinear(linear, update.branch))
    branch = update.branch
    return AppliedLayer(
        source=source,
        path=path,
        in_features=linear.in_features,
        out_features=linear.out_features,
        folded=folds(update),
        bank=0 if branch is None else branch.gating.directions,
        parameters=0 if branch is None else sum(t.numel() for t in (branch.A, branch.B, branch.router)),
    )


def _target(model: FlowModel, adapter: Adapter, source: str, modules: Mapping[str, str]) -> tuple[str, nn.Linear]:
    if source not in modules:
        near = get_close_matches(source, modules, n=3) or sorted(modules)[:3]
        raise BadInput(f"adapter {adapter.path}: {source} matches no linear of the policy; near: {', '.join(near)}")
    path = modules[source]
    base = model.get_submodule(path)
    if isinstance(base, RoutedLinear):
        raise BadInput(f"adapter {adapter.path}: {source} already carries an adapter; apply one adapter once")
    if not isinstance(base, nn.Linear):
        raise BadInput(f"adapter {adapter.path}: {source} is a {type(base).__name__} in the policy; expected a linear")
    shape = adapter.updates[source].shape
    if shape != (base.out_features, base.in_features):
        raise BadInput(
            f"adapter {adapter.path}: {source} is for a linear of (out, in) = {shape}; the policy's is "
            f"{(base.out_features, base.in_features)}, so the adapter belongs to another checkpoint"
        )
    return path, base


def _check_weight(adapter: Adapter, source: str, linear: nn.Linear) -> None:
    """An adapter that brings its base weights was trained on those alone."""
    own = adapter.updates[source].weight
    if own is None:
        return
    norm = torch.linalg.vector_norm(own.float())
    distance = float(torch.linalg.vector_norm(linear.weight.float() - own.float()) / norm)
    if not distance <= _SAME_WEIGHT:
        raise BadInput(
            f"adapter {adapter.path}: the policy's {source} is not the weight the adapter was trained on, it is "
            f"{distance:.1%} off: training takes its first experts out of the public weights, which then fit no more; "
            "load the whole policy from the adapter's file"
        )
