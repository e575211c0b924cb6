"""Merging input-conditional branches into plain weights, all or as many as an error budget allows, measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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
from vla_export.observations import Observations
from vla_export.progress import Advance, StageProgress
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space

# Choosing samples on which kinds of linears are tried alone, which only decides in what order they are merged.
RANKING = 2
# Shares of the budget that a choice may use up of its own samples, so that the held-out ones stay within it too. Where
# they do not, the next is tried: other observations move the actions by more or less.
_SHARES = (0.8, 0.4, 0.2)


# A sample and the chunk that errors are measured against.
Answered = tuple[Sample, Tensor]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StaticLayer(_Part):
    """One branch and what merging it loses, measured on the choosing samples' tokens, whether it is merged or not.

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
    alone was merged, on `RANKING` choosing samples; empty where nothing had to be chosen. trials: sets of linears that
    were measured together to choose one.
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
    observations: Observations,
    flow_steps: int,
    action: Space,
    progress: StageProgress,
    *,
    keep_exact: bool,
    budget: float = DEFAULT_BUDGET,
) -> StaticReport:
    """Replace, in place, routed linears of ``model`` by plain ones.

    exact: the policy's chunks for the held-out samples, all branches exact, which errors are measured against.
    action: the policy's action space. With ``keep_exact`` only so many are replaced that no dimension's error exceeds
    ``budget``, neither on the choosing samples nor on the held-out ones; without, all are, and the report says whether
    that is within it.

    Raises WorkFailed as `fit_static`, `folded` and `compare_actions` do.
    """
    linears = routed_linears(model)
    calibration, choosing, held_out = observations.calibration, observations.choosing, observations.held_out
    with progress.stage("fit static merges", passes(model) * (len(calibration) + len(choosing))) as advance:
        fits = fit_static(model, calibration, choosing, flow_steps, advance)
    layers = [_layer(model, path, linear, fits[path]) for path, linear in linears.items()]
    choice = Choice(frozenset(linears), {}, 0)
    if keep_exact:
        units = _units(layers)
        runs = (TRIALS + 1) * len(choosing) + RANKING * len(units) + len(held_out)
        with progress.stage("choose what to merge", runs) as advance:
            measured = _Measured(model, flow_steps, action, advance)
            choice = _choose(measured, fits, units, choosing, list(zip(held_out, exact, strict=True)), budget)
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


@dataclass(frozen=True)
class _Measured:
    """Errors of the actions of ``model`` as it is at that moment; each sample that runs advances."""

    model: FlowModel
    flow_steps: int
    action: Space
    advance: Advance

    def chunk(self, sample: Sample) -> Tensor:
        found = sample_actions(self.model, sample, self.flow_steps)
        self.advance()
        return found

    def error(self, answered: Sequence[Answered], limit: float) -> float:
        """Worst dimension's RMS error; over fewer samples where those alone take it over ``limit``."""
        squares = torch.zeros(len(self.action.dimensions), dtype=torch.float64)
        for sample, exact in answered:
            squares += squared_errors(exact, self.chunk(sample), self.action) / len(answered)
            if not float(squares.max()) <= limit**2:
                break
        return float(squares.nan_to_num(nan=torch.inf, posinf=torch.inf).max().sqrt())


def _choose(
    measured: _Measured,
    fits: Mapping[str, StaticFit],
    units: Sequence[Unit],
    choosing: Sequence[Sample],
    held_out: Sequence[Answered],
    budget: float,
) -> Choice:
    answered = [(sample, measured.chunk(sample)) for sample in choosing]
    with switched(measured.model, {path: fit.affine for path, fit in fits.items()}) as switch:

        @cache
        def alone(static: frozenset[str]) -> float:
            switch(static)
            return measured.error(answered[:RANKING], torch.inf)

        def within(limit: float) -> Choice:
            def together(static: Collection[str]) -> float:
                switch(static)
                return measured.error(answered, limit)

            return choose_static(units, lambda paths: alone(frozenset(paths)), together, limit)

        trials = 0
        # Folding adds up in another order than trying does, which moves an error in its last digits.
        limit = 0.999 * budget
        for share in _SHARES:
            choice = within(share * budget)
            trials += choice.trials
            switch(choice.static)
            if measured.error(held_out, limit) <= limit:
                return Choice(choice.static, choice.alone, trials)
    return Choice(frozenset(), choice.alone, trials)
