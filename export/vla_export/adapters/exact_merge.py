"""An adapter on its policy without approximation: what folds is folded, what depends on the input stays, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import ActionEffect, compare_actions
from vla_export.adapters.adapter import Adapter, Branch
from vla_export.adapters.apply import AppliedLayer, apply_exact
from vla_export.adapters.bank_cut import cut_bank
from vla_export.adapters.formula import FormulaCheck, checking
from vla_export.adapters.layer_cost import LayerCost, layer_cost
from vla_export.adapters.observed import BranchObservation, observing
from vla_export.adapters.placement import stack_of
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_linear import replace
from vla_export.error_budget import DEFAULT_BUDGET, ActionError, action_errors, within
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import WorkFailed

# Float32 products of a few thousand terms agree to 1e-6; a wrong selection or scale is off by 1e-2 and more.
_FORMULA_TOLERANCE = 1e-4


class ExactLayer(BaseModel):
    """One adapted linear and what its branch did over the held-out samples; of one that folded all is zero.

    stack: its stack's name, or ``edges``. kind: last part of its path. mean_rank, max_rank: directions used per token,
    of ``layer.bank``; ranks: tokens by that number, from 0. formula_error: largest relative difference of a token's
    output from the formula evaluated step by step; ``undecided`` of the ``tokens`` sit on the selection's edge to
    within rounding and are left out of it. kept: directions left of ``layer.bank``; ``missed``: tokens that needed more
    than calibration did. cost: with the branch as it is left, None where all folded.
    """

    model_config = ConfigDict(frozen=True)

    layer: AppliedLayer
    stack: str
    kind: str
    tokens: int = 0
    mean_rank: float = 0.0
    max_rank: int = 0
    ranks: tuple[int, ...] = ()
    formula_error: float = 0.0
    undecided: int = 0
    kept: int = 0
    missed: int = 0
    cost: LayerCost | None = None


class ExactReport(BaseModel):
    """What an exact merge did, on the held-out samples.

    effect: actions with the adapter against those of the base policy. cut: actions with the banks cut against those
    with the whole, None where nothing was to be cut; errors: the same as shares, zero where nothing is cut. cut_undone:
    the banks are whole again, for what the cut did to the actions was beyond the budget.
    """

    model_config = ConfigDict(frozen=True)

    layers: tuple[ExactLayer, ...]
    parameters_added: int
    effect: ActionEffect
    cut: ActionEffect | None
    cut_undone: bool
    errors: tuple[ActionError, ...]


@dataclass(frozen=True)
class ExactMerge:
    """actions: the policy's chunks for the held-out samples, every branch exact and no bank cut."""

    report: ExactReport
    actions: tuple[Tensor, ...]


def runs(calibration: int, choosing: int, held_out: int) -> int:
    """How many samples `merge_exact` runs, and so how often it reports progress, at most."""
    return calibration + 2 * choosing + (3 if calibration else 2) * held_out


def merge_exact(
    model: FlowModel,
    adapter: Adapter,
    modules: Mapping[str, str],
    samples: Sequence[Sample],
    flow_steps: int,
    action: Space,
    calibration: Sequence[Sample] = (),
    choosing: Sequence[Sample] = (),
    original: Callable[[str], Tensor] | None = None,
    budget: float = DEFAULT_BUDGET,
    progress: Advance | None = None,
) -> ExactMerge:
    """Put ``adapter`` on ``model``, in place, and measure it on ``samples`` (at least one, held out).

    modules: path of each linear in the training project's policy → its path in ``model``. action: the policy's action
    space, for errors in its units. calibration: real samples, apart from the held-out ones; a direction that none of
    their tokens uses is cut, unless that moves the actions for ``choosing``, samples apart from both, beyond
    ``budget``. Without any nothing is. original: of `apply_exact`. progress: called after each sample, `runs` times at
    most.

    Raises BadInput and WorkFailed as `apply_exact` does, and WorkFailed where a branch does not compute its formula, or
    an adapted linear never ran.
    """

    def answers(on: Sequence[Sample]) -> list[Tensor]:
        chunks = []
        for sample in on:
            chunks.append(sample_actions(model, sample, flow_steps))
            if progress is not None:
                progress()
        return chunks

    before = answers(samples)
    applied = apply_exact(model, adapter, modules, original)
    order = {path: n for n, (path, _) in enumerate(model.named_modules())}
    applied.sort(key=lambda layer: order[layer.path])  # a file has them by name
    sources = {layer.path: layer.source for layer in applied if layer.bank}
    branches = {path: branch for path, source in sources.items() if (branch := adapter.updates[source].branch)}
    known: Mapping[str, BranchObservation] | None = None
    if calibration and branches:
        with observing(model, list(sources)) as known:
            answers(calibration)
        for path, calibrated in known.items():
            _check_ran(path, calibrated)
    with observing(model, list(sources), known) as seen, checking(model, branches) as checks:
        after = answers(samples)
    for path, check in checks.items():
        _check_ran(path, seen[path])
        _check_formula(path, check)

    left, cut, undone = after, None, False
    if known is not None and (smaller := _smaller(known)):
        whole = answers(choosing)
        _cut(model, smaller)
        undone = bool(whole) and not within(action_errors(whole, answers(choosing), action), budget)
        judged = answers(samples)
        cut = compare_actions(after, judged, action)
        undone = undone or not within(action_errors(after, judged, action), budget)
        if undone:
            _restore(model, branches)
        else:
            left = judged
    return ExactMerge(
        ExactReport(
            layers=tuple(
                _layer(model, layer, seen[layer.path], checks[layer.path], len(samples))
                if layer.bank
                else ExactLayer(layer=layer, stack=stack_of(model, layer.path), kind=_kind(layer))
                for layer in applied
            ),
            parameters_added=sum(layer.parameters for layer in applied),
            effect=compare_actions(before, after, action),
            cut=cut,
            cut_undone=undone,
            errors=action_errors(after, left, action),
        ),
        tuple(after),
    )


def _smaller(known: Mapping[str, BranchObservation]) -> dict[str, BranchObservation]:
    """Of which linears calibration used less than all, by path."""
    return {path: seen for path, seen in known.items() if seen.most < len(seen.selected)}


def _cut(model: FlowModel, known: Mapping[str, BranchObservation]) -> None:
    """Cut banks to what their inputs used."""
    for path, seen in known.items():
        replace(model, path, cut_bank(_routed(model, path), _used(seen), seen.most))


def _restore(model: FlowModel, branches: Mapping[str, Branch]) -> None:
    """Give every linear its whole branch back."""
    for path, branch in branches.items():
        replace(model, path, RoutedLinear(_routed(model, path).base, branch))


def _routed(model: FlowModel, path: str) -> RoutedLinear:
    linear = model.get_submodule(path)
    assert isinstance(linear, RoutedLinear)
    return linear


def _used(seen: BranchObservation) -> Tensor:
    """The directions to keep; where none was used, the first, for a branch needs one."""
    used = seen.selected.clone()
    used[0] |= not bool(used.any())
    return used


def _check_ran(path: str, seen: BranchObservation) -> None:
    if not seen.tokens:
        raise WorkFailed(f"{path}: carries an adapter but never ran; the policy does not use this linear")


def _check_formula(path: str, check: FormulaCheck) -> None:
    if not check.error <= _FORMULA_TOLERANCE:
        raise WorkFailed(f"{path}: the exact branch is off its formula by {check.error:.1e} relative")


def _kind(layer: AppliedLayer) -> str:
    return layer.path.rpartition(".")[2]


def _layer(
    model: FlowModel, layer: AppliedLayer, seen: BranchObservation, check: FormulaCheck, samples: int
) -> ExactLayer:
    linear = _routed(model, layer.path)
    return ExactLayer(
        layer=layer,
        stack=stack_of(model, layer.path),
        kind=_kind(layer),
        tokens=seen.tokens,
        mean_rank=seen.mean_rank,
        max_rank=seen.max_rank,
        ranks=tuple(seen.ranks[: seen.max_rank + 1].tolist()),
        formula_error=check.error,
        undecided=check.undecided,
        kept=linear.directions,
        missed=seen.missed,
        cost=layer_cost(linear, seen.tokens / samples),
    )
