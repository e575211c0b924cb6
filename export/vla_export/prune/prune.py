"""The prune stage: everything that ``--prune`` asks for, and what that did to the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.actions import ActionEffect, compare_actions
from vla_export.checkpoints.checkpoint import Interface
from vla_export.error_budget import ActionError, action_errors, in_words
from vla_export.models.flow_model import FlowModel
from vla_export.observations import Observations
from vla_export.progress import StageProgress
from vla_export.prune.auto import AutoReport, auto_knobs, prune_auto
from vla_export.prune.base_vlm import BaseVlm
from vla_export.prune.cost import Cost, cost, total
from vla_export.prune.depth import DepthReport, prune_depth
from vla_export.prune.latency import Stopwatch
from vla_export.prune.spec import AutoPrune, DivergenceWidth, PruneStep
from vla_export.prune.structure import Structure
from vla_export.prune.width import WidthReport, check_width, comparisons, prune_width
from vla_export.sample import Sample, sample_actions


class PruneReport(BaseModel):
    """What pruning did, on the held-out samples.

    steps: as the user asked for them. depth, width, auto: None where it was not asked for. modules_before,
    modules_after: the cost by group of modules. effect: actions after all of it against those before; errors: the same
    as shares of each dimension's scale.
    """

    model_config = ConfigDict(frozen=True)

    steps: tuple[str, ...]
    depth: DepthReport | None
    width: WidthReport | None
    auto: AutoReport | None
    modules_before: dict[str, Cost]
    modules_after: dict[str, Cost]
    effect: ActionEffect
    errors: tuple[ActionError, ...]

    @property
    def before(self) -> Cost:
        """What the whole policy cost."""
        return total(self.modules_before.values())

    @property
    def after(self) -> Cost:
        """What the whole policy costs."""
        return total(self.modules_after.values())

    def error_in_words(self) -> str:
        """The worst of ``errors`` in one line."""
        return in_words(self.errors)

    def in_words(self) -> list[str]:
        """What was removed, a line for each thing."""
        before, after = self.before, self.after
        lines = [] if self.depth is None else self.depth.in_words()
        lines += [] if self.width is None else self.width.in_words()
        lines += [] if self.auto is None else self.auto.in_words()
        return [
            *lines,
            f"{before.parameters / 1e6:.3g} → {after.parameters / 1e6:.3g} million parameters, "
            f"{before.flops_chunk / 1e9:.3g} → {after.flops_chunk / 1e9:.3g} GFLOP a chunk",
        ]


@dataclass(frozen=True)
class Pruning:
    """What is asked of the stage.

    steps: in the order in which they are done. base: what the policy was trained from, for steps that compare with it.
    outer: what the policy was cut to before, None for a whole one.
    state: the file in which a search keeps what it has tried; identity: what that depends on. stopwatch: holds the
    policy as it was before.
    """

    steps: Sequence[PruneStep]
    base: BaseVlm | None
    outer: Structure | None
    state: Path
    identity: str
    stopwatch: Stopwatch


def prune(
    model: FlowModel,
    pruning: Pruning,
    observations: Observations,
    interface: Interface,
    family: str,
    progress: StageProgress,
) -> tuple[FlowModel, Structure, PruneReport]:
    """Prune ``model``, in place, and say what is left of it.

    Raises `BadInput` for a step that the policy or the base cannot follow, and `WorkFailed` as the steps do.
    """
    held_out, flow_steps, action = observations.held_out, interface.flow_steps, interface.action
    structure = Structure.of(model)
    for step in pruning.steps:
        if isinstance(step, DivergenceWidth) and pruning.base is not None:
            check_width(model, step, pruning.base, pruning.outer)
    before = _chunks(model, held_out, flow_steps, "actions before pruning", progress)
    modules_before = cost(model, held_out[0], flow_steps)
    depth = width = auto = None
    for step in pruning.steps:
        if isinstance(step, AutoPrune):
            model, structure, auto = _auto(model, step, pruning, observations, interface, progress)
        elif isinstance(step, DivergenceWidth):
            assert pruning.base is not None
            with progress.stage(f"remove channels and heads ({step})", comparisons(model, step, family)) as advance:
                model, structure, width = prune_width(model, step, pruning.base, structure, pruning.outer, advance)
        else:
            with progress.stage(f"remove layers ({step})"):
                model, structure, depth = prune_depth(
                    model, structure, step, observations.calibration, flow_steps, len(action.dimensions), family
                )
    after = _chunks(model, held_out, flow_steps, "actions after pruning", progress)
    return (
        model,
        structure,
        PruneReport(
            steps=tuple(map(str, pruning.steps)),
            depth=depth,
            width=width,
            auto=auto,
            modules_before=modules_before,
            modules_after=cost(model, held_out[0], flow_steps),
            effect=compare_actions(before, after, action),
            errors=action_errors(before, after, action),
        ),
    )


def _auto(
    model: FlowModel,
    step: AutoPrune,
    pruning: Pruning,
    observations: Observations,
    interface: Interface,
    progress: StageProgress,
) -> tuple[FlowModel, Structure, AutoReport]:
    flow_steps, sample = interface.flow_steps, observations.held_out[0]
    whole = total(cost(model, sample, flow_steps).values()).flops_chunk

    def flops(pruned: FlowModel) -> float:
        return total(cost(pruned, sample, flow_steps).values()).flops_chunk / whole

    def latency(pruned: FlowModel) -> float:
        return 1.0 / pruning.stopwatch.compare_model(pruned).ratio

    with progress.stage("rank layers, channels and heads"):
        knobs = auto_knobs(
            model,
            step,
            observations.calibration,
            flow_steps,
            len(interface.action.dimensions),
            pruning.base,
            pruning.outer,
        )
    with progress.stage(f"search ({step})", 100) as advance:
        done = 0

        def report(share: float) -> None:
            nonlocal done
            while done < int(100 * share):
                done += 1
                advance()

        return prune_auto(
            model,
            step,
            knobs,
            flops if step.measure == "flops" else latency,
            observations.choosing,
            flow_steps,
            interface.action,
            pruning.state,
            pruning.identity,
            report,
        )


def _chunks(
    model: FlowModel, samples: Sequence[Sample], flow_steps: int, what: str, progress: StageProgress
) -> list[Tensor]:
    chunks = []
    with progress.stage(what, len(samples)) as advance:
        for sample in samples:
            chunks.append(sample_actions(model, sample, flow_steps))
            advance()
    return chunks
