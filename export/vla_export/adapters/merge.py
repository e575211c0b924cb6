"""The merge stage: from a policy and its adapter to one policy, and a report of what that did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import ActionEffect, compare_actions
from vla_export.adapters.action_statistics import check_action_statistics
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.apply import AppliedLayer, apply_exact
from vla_export.adapters.bank_cut import cut_bank
from vla_export.adapters.formula import FormulaCheck, checking
from vla_export.adapters.observed import BranchObservation, observing
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput, WorkFailed

MergeMode = Literal["exact", "static", "auto"]

# Float32 products of a few thousand terms agree to 1e-6; a wrong selection or scale is off by 1e-2 and more.
_FORMULA_TOLERANCE = 1e-4


class MergedLayer(BaseModel):
    """One adapted linear and what its branch did over the held-out samples; of one that folded all is zero.

    mean_rank, max_rank: directions used per token, of ``layer.bank``; ranks: tokens by that number, from 0.
    formula_error: largest relative difference of a token's output from the formula evaluated step by step;
    ``undecided`` of the ``tokens`` sit on the selection's edge to within rounding and are left out of it. kept:
    directions left of ``layer.bank``; ``missed``: tokens that needed more than is left.
    """

    model_config = ConfigDict(frozen=True)

    layer: AppliedLayer
    tokens: int = 0
    mean_rank: float = 0.0
    max_rank: int = 0
    ranks: tuple[int, ...] = ()
    formula_error: float = 0.0
    undecided: int = 0
    kept: int = 0
    missed: int = 0


class MergeReport(BaseModel):
    """What merging did, on the held-out samples.

    form, settings: of `Adapter`. effect: actions with the adapter against those of the base policy. cut: actions with
    the bank cut against those with the whole; None where nothing was cut.
    """

    model_config = ConfigDict(frozen=True)

    requested: MergeMode
    mode: Literal["exact"]
    reason: str
    form: str
    settings: dict[str, str]
    ignored: dict[str, str]
    layers: tuple[MergedLayer, ...]
    parameters_added: int
    effect: ActionEffect
    cut: ActionEffect | None


def merge(
    model: FlowModel,
    adapter: Adapter,
    modules: Mapping[str, str],
    mode: MergeMode,
    samples: Sequence[Sample],
    flow_steps: int,
    action: Space,
    calibration: Sequence[Sample] = (),
    original: Callable[[str], Tensor] | None = None,
) -> tuple[FlowModel, MergeReport]:
    """Put ``adapter`` on ``model``, in place, and measure it on ``samples`` (at least one, held out).

    modules: path of each linear in the training project's policy → its path in ``model``. action: the policy's action
    space, for errors in its units. calibration: real samples, apart from the held-out ones; a direction that none of
    their tokens uses is cut. Without any nothing is. original: of `apply_exact`.

    Raises BadInput and WorkFailed as `apply_exact` does, BadInput for a mode that is not available and where the policy
    does not command with the statistics of the adapter's run, and WorkFailed where a branch does not compute its
    formula, or an adapted linear never ran.
    """
    if mode == "static":
        raise BadInput("--merge static: not available yet; use --merge exact or --merge auto")

    def answers(on: Sequence[Sample]) -> list[Tensor]:
        return [sample_actions(model, sample, flow_steps) for sample in on]

    if adapter.statistics is not None:
        check_action_statistics(adapter.statistics, action)
    before = answers(samples)
    applied = apply_exact(model, adapter, modules, original)
    sources = {layer.path: layer.source for layer in applied if layer.bank}
    known: Mapping[str, BranchObservation] | None = None
    if calibration:
        with observing(model, list(sources)) as known:
            answers(calibration)
        for path, calibrated in known.items():
            _check_ran(path, calibrated)
    branches = {path: branch for path, source in sources.items() if (branch := adapter.updates[source].branch)}
    with observing(model, list(sources), known) as seen, checking(model, branches) as checks:
        after = answers(samples)

    cut = None
    if known is not None and _cut(model, known):
        cut = compare_actions(after, answers(samples), action)
    layers = tuple(
        MergedLayer(layer=layer)
        if not layer.bank
        else _layer(layer, seen[layer.path], checks[layer.path], None if known is None else known[layer.path])
        for layer in applied
    )
    return model, MergeReport(
        requested=mode,
        mode="exact",
        reason="asked for" if mode == "exact" else "static merging is not available yet, so every branch stays exact",
        form=adapter.form,
        settings=dict(adapter.settings),
        ignored=dict(adapter.ignored),
        layers=layers,
        parameters_added=sum(layer.parameters for layer in applied),
        effect=compare_actions(before, after, action),
        cut=cut,
    )


def _cut(model: FlowModel, known: Mapping[str, BranchObservation]) -> bool:
    """Cut every bank to what its inputs used; whether there was anything to cut."""
    smaller = {path: seen for path, seen in known.items() if seen.most < len(seen.selected)}
    for path, seen in smaller.items():
        linear = model.get_submodule(path)
        assert isinstance(linear, RoutedLinear)
        parent, _, child = path.rpartition(".")
        setattr(model.get_submodule(parent), child, cut_bank(linear, _used(seen), seen.most))
    return bool(smaller)


def _used(seen: BranchObservation) -> Tensor:
    """The directions to keep; where none was used, the first, for a branch needs one."""
    used = seen.selected.clone()
    used[0] |= not bool(used.any())
    return used


def _check_ran(path: str, seen: BranchObservation) -> None:
    if not seen.tokens:
        raise WorkFailed(f"{path}: carries an adapter but never ran; the policy does not use this linear")


def _layer(
    layer: AppliedLayer, seen: BranchObservation, check: FormulaCheck, known: BranchObservation | None
) -> MergedLayer:
    _check_ran(layer.path, seen)
    if not check.error <= _FORMULA_TOLERANCE:
        raise WorkFailed(f"{layer.path}: the exact branch is off its formula by {check.error:.1e} relative")
    return MergedLayer(
        layer=layer,
        tokens=seen.tokens,
        mean_rank=seen.mean_rank,
        max_rank=seen.max_rank,
        ranks=tuple(seen.ranks[: seen.max_rank + 1].tolist()),
        formula_error=check.error,
        undecided=check.undecided,
        kept=layer.bank if known is None else int(_used(known).sum()),
        missed=seen.missed,
    )
