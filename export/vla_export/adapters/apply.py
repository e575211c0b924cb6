"""Putting an adapter's branches on the linears they were trained for."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict
from torch import nn

from vla_export.adapters.lora_sp import LoRASPAdapter
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel
from vla_runtime.errors import BadInput


class AppliedLayer(BaseModel):
    """One linear that now carries a branch.

    source: its path in the training project's policy. path: in the model. parameters: numbers the branch added.
    """

    model_config = ConfigDict(frozen=True)

    source: str
    path: str
    in_features: int
    out_features: int
    bank: int
    r: int
    parameters: int


def apply_exact(model: FlowModel, adapter: LoRASPAdapter, modules: Mapping[str, str]) -> list[AppliedLayer]:
    """Replace, in place, each linear the adapter names by a `RoutedLinear`; all are checked before any is replaced.

    modules: path of each linear in the training project's policy → its path in ``model``.

    Raises BadInput where a branch matches no linear, does not fit the linear it matches, or that linear already has
    one.
    """
    targets = {source: _target(model, adapter, source, modules) for source in adapter.branches}
    paths = [path for path, _ in targets.values()]
    for source, (path, _) in targets.items():
        if paths.count(path) > 1:
            raise BadInput(f"adapter {adapter.path}: {source} and another module are both the linear {path}; keep one")

    applied = []
    for source, (path, base) in targets.items():
        branch = adapter.branches[source]
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, RoutedLinear(base, branch, adapter.config))
        applied.append(
            AppliedLayer(
                source=source,
                path=path,
                in_features=base.in_features,
                out_features=base.out_features,
                bank=adapter.config.bank,
                r=adapter.config.r,
                parameters=branch.A.numel() + branch.B.numel() + branch.router.numel(),
            )
        )
    return applied


def _target(model: FlowModel, adapter: LoRASPAdapter, source: str, modules: Mapping[str, str]) -> tuple[str, nn.Linear]:
    if source not in modules:
        near = get_close_matches(source, modules, n=3) or sorted(modules)[:3]
        raise BadInput(f"adapter {adapter.path}: {source} matches no linear of the policy; near: {', '.join(near)}")
    path = modules[source]
    base = model.get_submodule(path)
    if isinstance(base, RoutedLinear):
        raise BadInput(f"adapter {adapter.path}: {source} already carries an adapter; apply one adapter once")
    if not isinstance(base, nn.Linear):
        raise BadInput(f"adapter {adapter.path}: {source} is a {type(base).__name__} in the policy; expected a linear")
    branch = adapter.branches[source]
    shapes = (branch.B.shape[0], branch.A.shape[1])
    if shapes != (base.out_features, base.in_features):
        raise BadInput(
            f"adapter {adapter.path}: {source} is for a linear of (out, in) = {shapes}; the policy's is "
            f"{(base.out_features, base.in_features)}, so the adapter belongs to another checkpoint"
        )
    return path, base
