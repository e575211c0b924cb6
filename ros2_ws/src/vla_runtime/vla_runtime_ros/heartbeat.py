"""What the policy node says of itself all the time, and how the arm node reads it."""

from __future__ import annotations

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_runtime.errors import BadInput
from vla_runtime_ros import converters

POLICY = "policy"
"""The name under which the policy's own sign of life is watched; the others are the names of its cameras."""

_TAKEN = "taken/"


def message(node: str, time: float, line: str, taken: Mapping[str, float]) -> DiagnosticArray:
    """The heartbeat of ``node`` at ``time`` [s]: what it does, in a line, and when its newest images were taken [s]."""
    beat = DiagnosticArray()
    beat.header.stamp = converters.stamp(time)
    values = [KeyValue(key=f"{_TAKEN}{camera}", value=f"{stamp:.6f}") for camera, stamp in taken.items()]
    beat.status = [DiagnosticStatus(name=node, hardware_id="vla_runtime", message=line, values=values)]
    return beat


def signs_of_life(beat: DiagnosticArray) -> dict[str, float]:
    """When the policy, and by their names its cameras, were last alive, in [s].

    Raises `BadInput` for a message that is no heartbeat.
    """
    if len(beat.status) != 1:
        raise BadInput(f"a heartbeat has one status, got {len(beat.status)}")
    signs = {POLICY: converters.seconds(beat.header.stamp)}
    for entry in beat.status[0].values:
        if entry.key.startswith(_TAKEN):
            try:
                signs[entry.key.removeprefix(_TAKEN)] = float(entry.value)
            except ValueError as error:
                raise BadInput(f"a heartbeat says {entry.key} is {entry.value!r}, expected a time in s") from error
    return signs
