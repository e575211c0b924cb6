"""What a node says about its health, and how it is said on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_runtime.profiling.latency import latency
from vla_runtime.profiling.spans import Spans
from vla_runtime_ros import converters


class Level(Enum):
    """How worried to be."""

    OK = DiagnosticStatus.OK
    WARN = DiagnosticStatus.WARN
    ERROR = DiagnosticStatus.ERROR


@dataclass(frozen=True)
class Health:
    """One node's health: how bad, why in one line, and the figures behind it."""

    level: Level
    message: str
    values: Mapping[str, float | int | str] = field(default_factory=dict)


def message(node: str, time: float, health: Health) -> DiagnosticArray:
    """``health`` of the node named ``node`` at ``time`` in [s], as a diagnostic array of one status."""
    array = DiagnosticArray()
    array.header.stamp = converters.stamp(time)
    array.status = [
        DiagnosticStatus(
            name=node,
            hardware_id="vla_runtime",
            level=health.level.value,
            message=health.message,
            values=[KeyValue(key=key, value=_text(value)) for key, value in health.values.items()],
        )
    ]
    return array


def durations(spans: Spans) -> dict[str, float]:
    """``STAGE_p50_ms`` and ``STAGE_p99_ms`` of every stage recorded."""
    figures: dict[str, float] = {}
    for stage in spans.stages():
        summary = latency(spans.seconds(stage))
        figures |= {f"{stage}_p50_ms": summary.p50 * 1e3, f"{stage}_p99_ms": summary.p99 * 1e3}
    return figures


def _text(value: float | int | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
