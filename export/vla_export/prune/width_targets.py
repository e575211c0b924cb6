"""How much of what to remove, and from which end of the ranking: the published configurations (arXiv 2606.31382)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_export.models.flow_model import FlowModel
from vla_export.prune.divergence import layers_with
from vla_export.prune.ranking import Direction
from vla_export.prune.spec import DivergenceWidth, Preset
from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class Target:
    """Of one type of module: the ratio of its units to remove, and which go first.

    basis: where the direction, and a preset's ratio, come from, in words.
    """

    ratio: float
    direction: Direction
    basis: str


@dataclass(frozen=True)
class _Published:
    direction: Direction
    ratios: Mapping[Preset, float]


def _ratios(light: float, moderate: float, aggressive: float) -> Mapping[Preset, float]:
    return {"light": light, "moderate": moderate, "aggressive": aggressive}


# The wrong end is fatal: with an eighth of OpenVLA's language heads gone, success falls from 84.7 to 84.3 % or to 0.
_PI05 = {
    "vision.mlp": _Published("highest", _ratios(0.4, 0.2, 0.2)),
    "vision.heads": _Published("highest", _ratios(0.2, 0.2, 0.2)),
    "language.mlp": _Published("highest", _ratios(0.2, 0.3, 0.5)),
    "language.heads": _Published("highest", _ratios(0.2, 0.2, 0.2)),
}
_BASIS = {
    "pi05": "published for π0.5",
    "pi0": "π0.5's, which has the same vision-language model; nothing is published for π0",
    "smolvla": "π0.5's; nothing is published for SmolVLA",
}


def directions(model: FlowModel) -> dict[str, Direction]:
    """Which units go first, by module, as ``language.mlp``, of those that may be pruned and that a policy has."""
    return {module: published.direction for module, published in _PI05.items() if layers_with(model, module)}


def width_targets(spec: DivergenceWidth, model: FlowModel, family: str) -> dict[str, Target]:
    """What a spec removes from a policy, by module, as ``language.mlp``; projector and action expert are never pruned.

    Raises BadInput for a family without published directions, a module that is not pruned or that the policy lacks, and
    a policy that has nothing to prune.
    """
    if family not in _BASIS:
        raise BadInput(f"--prune {spec}: no direction is known for a {family} policy; known: {', '.join(_BASIS)}")
    there = directions(model)
    if not there:
        raise BadInput(f"--prune {spec}: this policy has no channels and no heads that may be removed; leave it out")
    ratios = _asked(spec, list(there))
    for module in ratios:
        if module not in there:
            raise BadInput(f"--prune {spec}: this policy has no {module} to prune; expected {', '.join(there)}")
    return {module: Target(ratio, there[module], _BASIS[family]) for module, ratio in ratios.items()}


def _asked(spec: DivergenceWidth, there: list[str]) -> Mapping[str, float]:
    if spec.preset is not None:
        return {module: _PI05[module].ratios[spec.preset] for module in there}
    if isinstance(spec.ratios, Mapping):
        return spec.ratios
    return dict.fromkeys(there, spec.ratios)
