"""The merge stage: from a policy and its adapter to one policy, and a report of what that did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vla_export.actions import ActionEffect, compare_actions
from vla_export.adapters.apply import AppliedLayer, apply_exact
from vla_export.adapters.lora_sp import LoRASPAdapter, LoRASPConfig
from vla_export.adapters.observed import observing
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput, WorkFailed

MergeMode = Literal["exact", "static", "auto"]

# Float32 products of a few thousand terms agree to 1e-6; a wrong selection or scale is off by 1e-2 and more.
_FORMULA_TOLERANCE = 1e-4


class MergedLayer(BaseModel):
    """One adapted linear and what its branch did over the samples.

    mean_rank, max_rank: directions used per token, of ``layer.bank``. formula_error: largest relative difference of a
    token's output from the formula evaluated step by step; ``undecided`` of the ``tokens`` sit on the selection's
    threshold to within rounding and are left out of it.
    """

    model_config = ConfigDict(frozen=True)

    layer: AppliedLayer
    tokens: int
    mean_rank: float
    max_rank: int
    formula_error: float
    undecided: int


class MergeReport(BaseModel):
    """What merging did. effect: actions with the adapter against those of the base policy."""

    model_config = ConfigDict(frozen=True)

    requested: MergeMode
    mode: Literal["exact"]
    reason: str
    config: LoRASPConfig
    layers: tuple[MergedLayer, ...]
    parameters_added: int
    effect: ActionEffect


def merge(
    model: FlowModel,
    adapter: LoRASPAdapter,
    modules: Mapping[str, str],
    mode: MergeMode,
    samples: Sequence[Sample],
    flow_steps: int,
    action: Space,
) -> tuple[FlowModel, MergeReport]:
    """Put ``adapter`` on ``model``, in place, and measure it on ``samples`` (at least one).

    modules: path of each linear in the training project's policy → its path in ``model``. action: the policy's action
    space, for errors in its units.

    Raises BadInput as `apply_exact` does and for a mode that is not available; WorkFailed where a branch does not
    compute its formula, or an adapted linear never ran.
    """
    if mode == "static":
        raise BadInput("--merge static: not available yet; use --merge exact or --merge auto")
    before = [sample_actions(model, sample, flow_steps) for sample in samples]
    applied = apply_exact(model, adapter, modules)
    with observing(model, adapter, applied) as observations:
        after = [sample_actions(model, sample, flow_steps) for sample in samples]

    layers = []
    for layer in applied:
        seen = observations[layer.path]
        if not seen.tokens:
            raise WorkFailed(f"{layer.path}: carries an adapter but never ran; the policy does not use this linear")
        if not seen.error <= _FORMULA_TOLERANCE:
            raise WorkFailed(f"{layer.path}: the exact branch is off its formula by {seen.error:.1e} relative")
        layers.append(
            MergedLayer(
                layer=layer,
                tokens=seen.tokens,
                mean_rank=seen.mean_rank,
                max_rank=seen.max_rank,
                formula_error=seen.error,
                undecided=seen.undecided,
            )
        )
    return model, MergeReport(
        requested=mode,
        mode="exact",
        reason="asked for" if mode == "exact" else "static merging is not available yet, so every branch stays exact",
        config=adapter.config,
        layers=tuple(layers),
        parameters_added=sum(layer.parameters for layer in applied),
        effect=compare_actions(before, after, action),
    )
