"""Merging input-conditional branches into plain weights, all or as many as an error budget allows, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import ActionEffect, compare_actions
from vla_export.adapters.budget import TRIALS, Choice, Unit, choose_static
from vla_export.adapters.layer_cost import LayerCost, layer_cost
from vla_export.adapters.placement import stack_of
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import StaticFit, fit_static, passes, routed_linears
from vla_export.adapters.static_linear import folded, replace, switched
from vla_export.error_budget import DEFAULT_BUDGET, ActionError, action_errors, squared_errors, within
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance, StageProgress
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space

# Held-out samples on which kinds of linears are tried alone, which only decides in what order they are merged.
RANKING = 2
# Folding adds up in another order than trying does, which moves an error in its last digits.
_MARGIN = 0.999


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StaticLayer(_Part):
    """One branch and what merging it loses, measured on held-out tokens, whether it is merged or not.

    stack: its stack's name, or ``edges``. kind: last part of its path. residual_least_squares, residual_mean_scores:
    the energy that the merged branch is off by, as a share of the branch's own: 0 merges without loss, 1 is no better
    than leaving the branch out. share: the branch's energy as a share of the linear's whole output's. ridge: of
    the fit, as a share of the inputs' mean variance. fitted: calibration tokens the fit is made from, of ``tokens``.
    """

    path: str
    stack: str
    kind: str
    decision: Literal["static", "exact"]
    residual_least_squares: float
    residual_mean_scores: float
    share: float
    ridge: float
    tokens: int
    fitted: int
    held_out: int
    cost: LayerCost


class StaticReport(_Part):
    """What merging did to the policy whose branches are all exact, on held-out samples.

    within_budget: whether no dimension's error is above ``budget``. alone: worst error of each kind of linear when it
    alone was merged, on `RANKING` samples; empty where nothing had to be chosen. trials: sets of linears that were
    measured together to choose one.
    """

    budget: float
    within_budget: bool
    errors: tuple[ActionError, ...]
    effect: ActionEffect
    layers: tuple[StaticLayer, ...]
    alone: dict[str, float]
    trials: int


def merge_static(
    model: FlowModel,
    exact: Sequence[Tensor],
    calibration: Sequence[Sample],
    held_out: Sequence[Sample],
    flow_steps: int,
    action: Space,
    progress: StageProgress,
    *,
    keep_exact: bool,
    budget: float = DEFAULT_BUDGET,
) -> StaticReport:
    """Replace, in place, routed linears of ``model`` by plain ones.

    exact: the policy's chunks for the ``held_out`` samples, all branches exact, which errors are measured against.
    action: the policy's action space. With ``keep_exact`` only so many are replaced that no dimension's error exceeds
    ``budget``; without, all are, and the report says whether that is within it.

    Raises WorkFailed as `fit_static`, `folded` and `compare_actions` do.
    """
    linears = routed_linears(model)
    with progress.stage("fit static merges", passes(model) * (len(calibration) + len(held_out))) as advance:
        fits = fit_static(model, calibration, held_out, flow_steps, advance)
    layers = [_layer(model, path, linear, fits[path]) for path, linear in linears.items()]
    choice = Choice(frozenset(linears), {}, 0)
    if keep_exact:
        units = _units(layers)
        with progress.stage("choose what to merge", TRIALS * len(held_out) + RANKING * len(units)) as advance:
            choice = _choose(model, fits, units, exact, held_out, flow_steps, action, _MARGIN * budget, advance)
    for path in choice.static:
        replace(model, path, folded(path, linears.pop(path), fits[path].affine))

    merged = []
    with progress.stage("the merged policy's actions", len(held_out)) as advance:
        for sample in held_out:
            merged.append(sample_actions(model, sample, flow_steps))
            advance()
    effect = compare_actions(exact, merged, action)
    errors = action_errors(exact, merged, action)
    return StaticReport(
        budget=budget,
        within_budget=within(errors, budget),
        errors=errors,
        effect=effect,
        layers=tuple(
            layer.model_copy(update={"decision": "static"}) if layer.path in choice.static else layer
            for layer in layers
        ),
        alone=dict(choice.alone),
        trials=choice.trials,
    )


def _layer(model: FlowModel, path: str, linear: RoutedLinear, fit: StaticFit) -> StaticLayer:
    return StaticLayer(
        path=path,
        stack=stack_of(model, path),
        kind=path.rpartition(".")[2],
        decision="exact",
        residual_least_squares=fit.residual,
        residual_mean_scores=fit.residual_mean_scores,
        share=fit.share,
        ridge=fit.ridge,
        tokens=fit.tokens,
        fitted=fit.fitted,
        held_out=fit.held_out,
        cost=layer_cost(linear, fit.computed),
    )


def _units(layers: Sequence[StaticLayer]) -> list[Unit]:
    kinds: dict[str, list[StaticLayer]] = {}
    for layer in layers:
        kinds.setdefault(f"{layer.stack} {layer.kind}", []).append(layer)
    return [
        Unit(
            name,
            losses={layer.path: layer.residual_least_squares * layer.share for layer in alike},
            savings={
                layer.path: layer.cost.tokens * (layer.cost.flops_exact - layer.cost.flops_static) for layer in alike
            },
        )
        for name, alike in kinds.items()
    ]


def _choose(
    model: FlowModel,
    fits: Mapping[str, StaticFit],
    units: Sequence[Unit],
    exact: Sequence[Tensor],
    held_out: Sequence[Sample],
    flow_steps: int,
    action: Space,
    budget: float,
    advance: Advance,
) -> Choice:
    with switched(model, {path: fit.affine for path, fit in fits.items()}) as switch:

        def error(static: Collection[str], count: int, limit: float) -> float:
            """Worst dimension's RMS error over ``count`` samples; over fewer where those alone take it over a limit."""
            switch(static)
            squares = torch.zeros(len(action.dimensions), dtype=torch.float64)
            for sample, chunk in list(zip(held_out, exact, strict=True))[:count]:
                squares += squared_errors(chunk, sample_actions(model, sample, flow_steps), action) / count
                advance()
                if not float(squares.max()) <= limit**2:
                    break
            return float(squares.nan_to_num(nan=torch.inf, posinf=torch.inf).max().sqrt())

        return choose_static(
            units,
            alone=lambda paths: error(paths, min(RANKING, len(held_out)), torch.inf),
            together=lambda paths: error(paths, len(held_out), budget),
            budget=budget,
        )
