import pytest

from vla_runtime.profiling.spans import Spans
from vla_runtime_ros import diagnostics
from vla_runtime_ros.diagnostics import Health, Level


def test_a_health_becomes_one_status_with_its_figures_in_order() -> None:
    health = Health(Level.WARN, "the image of camera side is old", {"rate_hz": 14.98765432, "chunks": 3, "engine": "x"})
    array = diagnostics.message("/left/policy_node", 12.5, health)
    (status,) = array.status
    assert (array.header.stamp.sec, array.header.stamp.nanosec) == (12, 500_000_000)
    assert (status.name, status.level, status.message) == ("/left/policy_node", b"\x01", health.message)
    assert [(v.key, v.value) for v in status.values] == [("rate_hz", "14.9877"), ("chunks", "3"), ("engine", "x")]


def test_durations_are_percentiles_in_milliseconds() -> None:
    spans = Spans()
    for i in range(1, 101):
        spans.record("tick", i * 1e-3)
    assert diagnostics.durations(spans) == pytest.approx({"tick_p50_ms": 50.0, "tick_p99_ms": 99.0})
    assert diagnostics.durations(Spans()) == {}
