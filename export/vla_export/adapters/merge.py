"""The merge stage: from a policy and its adapter to one policy, and a report of what that did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.adapters.action_statistics import check_action_statistics
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.exact_merge import ExactLayer, ExactReport, merge_exact, runs
from vla_export.adapters.static_merge import StaticLayer, StaticReport, merge_static
from vla_export.error_budget import DEFAULT_BUDGET, ActionError, in_words, within, worst
from vla_export.models.flow_model import FlowModel
from vla_export.observations import Observations
from vla_export.progress import StageProgress
from vla_runtime.bundle.manifest import Space

MergeMode = Literal["exact", "static", "auto"]
Outcome = Literal["folded", "static", "exact"]


class MergeReport(BaseModel):
    """What merging did, on the held-out samples.

    requested: what the user asked for; reason: why it came to what ``layers`` are. form, settings, ignored: of
    `Adapter`. exact: the adapter as it was put on. static: what was merged of it since, None where nothing was to be.
    errors: of the actions, against the policy with every branch exact and no bank cut.
    """

    model_config = ConfigDict(frozen=True)

    requested: MergeMode
    reason: str
    form: str
    settings: dict[str, str]
    ignored: dict[str, str]
    budget: float
    errors: tuple[ActionError, ...]
    exact: ExactReport
    static: StaticReport | None

    def layers(self) -> Iterator[tuple[ExactLayer, StaticLayer | None, Outcome]]:
        """Every adapted linear, what merging it would lose where that was measured, and what became of it.

        ``folded`` had nothing that depends on the input and lost nothing.
        """
        static = {layer.path: layer for layer in (self.static.layers if self.static is not None else ())}
        for layer in self.exact.layers:
            fit = static.get(layer.layer.path)
            if not layer.layer.bank:
                yield layer, fit, "folded"
            else:
                yield layer, fit, "exact" if fit is None else fit.decision

    def counts(self) -> dict[Outcome, int]:
        """How many linears became what, without those that none became."""
        found: dict[Outcome, int] = {}
        for _, _, outcome in self.layers():
            found[outcome] = found.get(outcome, 0) + 1
        return found

    def in_words(self) -> str:
        """The adapter and what became of it, in one line."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.counts().items())
        return f"{self.form} on {len(self.exact.layers)} linears: {counts}"

    @property
    def within_budget(self) -> bool:
        """Whether no number of the action is further off than ``budget``."""
        return within(self.errors, self.budget)

    def error_in_words(self) -> str:
        """``errors`` in one line."""
        said = in_words(self.errors)
        return said if worst(self.errors).rms == 0 else f"{said} (budget {self.budget:.2%})"


def merge(
    model: FlowModel,
    adapter: Adapter,
    modules: Mapping[str, str],
    mode: MergeMode,
    observations: Observations,
    flow_steps: int,
    action: Space,
    progress: StageProgress,
    *,
    budget: float = DEFAULT_BUDGET,
    original: Callable[[str], Tensor] | None = None,
) -> MergeReport:
    """Put ``adapter`` on ``model``, in place, and merge of it what ``mode`` says.

    modules: path of each linear in the training project's policy → its path in ``model``. action: the policy's action
    space. original: of `vla_export.adapters.apply.apply_exact`.

    On synthetic observations no bank is cut and ``auto`` merges nothing: what branches do to pictures of nothing says
    nothing of what they do on the robot. ``static`` merges nevertheless.

    Raises BadInput where the policy does not command with the statistics of the adapter's run, and BadInput and
    WorkFailed as `merge_exact` and `merge_static` do.
    """
    if adapter.statistics is not None:
        check_action_statistics(adapter.statistics, action)
    seen, held_out, synthetic = observations, observations.held_out, observations.synthetic
    to_cut_by, cut_chosen_by = ((), ()) if synthetic else (seen.calibration, seen.choosing)
    with progress.stage("apply adapter", runs(len(to_cut_by), len(cut_chosen_by), len(held_out))) as advance:
        exact = merge_exact(
            model,
            adapter,
            modules,
            held_out,
            flow_steps,
            action,
            to_cut_by,
            cut_chosen_by,
            original,
            budget,
            advance,
        )
    branches = any(layer.layer.bank for layer in exact.report.layers)
    static = None
    if branches and (mode == "static" or (mode == "auto" and not synthetic)):
        static = merge_static(
            model,
            exact.actions,
            observations,
            flow_steps,
            action,
            progress,
            keep_exact=mode == "auto",
            budget=budget,
        )
    return MergeReport(
        requested=mode,
        reason=_reason(mode, branches, synthetic, budget),
        form=adapter.form,
        settings=dict(adapter.settings),
        ignored=dict(adapter.ignored),
        budget=budget,
        errors=exact.report.errors if static is None else static.errors,
        exact=exact.report,
        static=static,
    )


def _reason(mode: MergeMode, branches: bool, synthetic: bool, budget: float) -> str:
    if not branches:
        return "nothing of it depends on the input, so all of it folds into the weights without loss"
    if mode != "auto":
        return "as asked for"
    if synthetic:
        return "made-up observations cannot tell what may be merged, so every branch stays exact; give --calibration"
    return f"as many merged as keep every action within {budget:.2%} of its scale on held-out samples"
