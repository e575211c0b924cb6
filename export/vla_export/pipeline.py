"""The whole export: prepare the policy, write the bundle, build the engine."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from vla_export.bundling import write_bundle
from vla_export.engine_stage import EngineOutcome, build_engine
from vla_export.preparation import prepare
from vla_export.progress import StageProgress
from vla_export.report.report import ExportReport
from vla_export.request import ExportRequest
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import remember


@dataclass(frozen=True)
class Exported:
    """What an export came to; ``engine`` is None where none was asked for.

    beyond_budget: a stage moved the actions further than the error budget allows, by force.
    """

    bundle: Bundle
    report: ExportReport
    engine: EngineOutcome | None
    beyond_budget: bool


def export(request: ExportRequest, progress: StageProgress) -> Exported:
    """Run every stage that ``request`` asks for; raises `VlaError`, leaving nothing half-written."""
    with ExitStack() as ending:
        policy = prepare(request, progress, ending)
        bundle, report = write_bundle(policy, request, progress)
    remember(bundle.root)
    engine = None if request.trt is None else build_engine(bundle, request.trt, progress)
    return Exported(bundle, report, engine, policy.beyond_budget)
