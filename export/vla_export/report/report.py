"""Everything an export measured: ``report.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vla_export.actions import ActionEffect
from vla_export.adapters.merge import MergeReport
from vla_export.prune.latency import LatencyReport
from vla_export.prune.prune import PruneReport
from vla_runtime.bundle.manifest import Precision


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class MeasuredOn(_Part):
    """The observations: how many were fitted to, how many others chose and judged, and whether they are synthetic."""

    source: str
    synthetic: bool
    calibration: int
    choosing: int
    held_out: int


class GraphFile(_Part):
    """One exported graph: its nodes, and bytes with its weights."""

    name: str
    nodes: int
    bytes: int


class ParityReport(_Part):
    """An engine against PyTorch in float32 on the golden samples; relative errors as in `vla_runtime.bundle.parity`.

    effect: what the difference means for the actions, in their units.
    """

    precision: Precision
    engine: str
    samples: int
    prefix: float
    step: float
    chunk: float
    guided: float | None
    gate: float
    effect: ActionEffect


class ExportReport(_Part):
    """merge, prune: None where the stage was not asked for. latency: before and after pruning. overall: the
    bundle's policy against the checkpoint's."""

    checkpoint: str
    family: str
    versions: dict[str, str]
    measured_on: MeasuredOn
    ignored_tensors: dict[str, str]
    merge: MergeReport | None
    prune: PruneReport | None
    latency: LatencyReport | None
    overall: ActionEffect
    graphs: tuple[GraphFile, ...]
    parity: tuple[ParityReport, ...]
