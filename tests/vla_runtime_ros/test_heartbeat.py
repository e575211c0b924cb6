import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_runtime.errors import BadInput
from vla_runtime_ros import heartbeat


def test_what_is_said_is_understood() -> None:
    beat = heartbeat.message("/left/policy_node", 12.5, "answering observations", {"side": 12.375, "wrist": 12.25})
    assert heartbeat.signs_of_life(beat) == {"policy": 12.5, "side": 12.375, "wrist": 12.25}
    assert (beat.status[0].name, beat.status[0].message) == ("/left/policy_node", "answering observations")


def test_a_stamp_keeps_its_microseconds() -> None:
    beat = heartbeat.message("n", 0.0, "", {"side": 1_700_000_000.123456})
    assert heartbeat.signs_of_life(beat)["side"] == pytest.approx(1_700_000_000.123456, abs=2e-6)


def test_what_is_no_heartbeat_is_refused() -> None:
    with pytest.raises(BadInput, match="one status, got 0"):
        heartbeat.signs_of_life(DiagnosticArray())
    broken = DiagnosticArray(status=[DiagnosticStatus(values=[KeyValue(key="taken/side", value="soon")])])
    with pytest.raises(BadInput, match="taken/side is 'soon'"):
        heartbeat.signs_of_life(broken)
