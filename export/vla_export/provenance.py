"""Where a bundle came from and what was done to it, for its manifest."""

from __future__ import annotations

from collections.abc import Iterator

from vla_export.adapters.adapter import Adapter
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.error_budget import worst
from vla_export.report.report import ExportReport
from vla_runtime import __version__
from vla_runtime.bundle.bundle import sha256
from vla_runtime.bundle.manifest import Provenance, Stage


def of(checkpoint: Checkpoint, adapter: Adapter | None, report: ExportReport | None) -> Provenance:
    """Names and digests of what went in, and each stage with its measured errors; no stages without a report."""
    return Provenance(
        exporter=f"vla-deploy {__version__}",
        checkpoint=checkpoint.root.resolve().name,
        checkpoint_sha256=checkpoint.sha256,
        adapter=None if adapter is None else adapter.path.name,
        adapter_sha256=None if adapter is None else _digest(adapter, checkpoint),
        stages=() if report is None else tuple(_stages(report)),
    )


def _digest(adapter: Adapter, checkpoint: Checkpoint) -> str:
    """An adapter that brought the whole policy is what the checkpoint's weights were read from."""
    return sha256(adapter.path) if adapter.policy is None else checkpoint.sha256


def _stages(report: ExportReport) -> Iterator[Stage]:
    if (merge := report.merge) is not None:
        yield Stage(
            name="merge",
            summary=f"{merge.in_words()}; {merge.reason}",
            measured={
                "formula_error": max(layer.formula_error for layer in merge.exact.layers),
                "worst_action_error": worst(merge.errors).rms,
                "error_budget": merge.budget,
            },
        )
    if (prune := report.prune) is not None:
        yield Stage(
            name="prune",
            summary=f"{', '.join(prune.steps)}: {'; '.join(prune.in_words())}",
            measured={
                "action_relative_error": prune.effect.relative_error,
                "action_cosine": prune.effect.cosine,
                "worst_action_error": worst(prune.errors).rms,
                **({} if report.latency is None else {"latency_ratio": report.latency.ratio}),
            },
        )
    for parity in report.parity:
        yield Stage(
            name=f"parity {parity.precision}",
            summary=f"{parity.engine} against PyTorch float32 on {parity.samples} golden samples",
            measured={
                "prefix": parity.prefix,
                "step": parity.step,
                "chunk": parity.chunk,
                **({} if parity.guided is None else {"guided": parity.guided}),
            },
        )
