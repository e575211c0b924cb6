"""What the PiPER's status bits mean, in words."""

from __future__ import annotations

from collections.abc import Iterator

from vla_runtime.arms.piper_frames import ArmStatus

_CONDITIONS = {
    0x01: "emergency stop",
    0x02: "no inverse kinematics solution",
    0x03: "singularity",
    0x04: "target beyond a joint limit",
    0x05: "a joint does not communicate",
    0x06: "a joint brake is not released",
    0x07: "collision",
    0x08: "too fast while guided by hand",
    0x09: "a joint reports an error",
    0x0A: "an error without a name",
    0x0B: "recording by hand guidance",
    0x0C: "replaying a hand-guided trajectory",
    0x0D: "replay of a hand-guided trajectory paused",
    0x0E: "controller too hot",
    0x0F: "brake resistor too hot",
}
_FOREIGN_CONTROL = {
    0x02: "hand guidance (teaching)",
    0x03: "Ethernet",
    0x04: "Wi-Fi",
    0x05: "remote control",
    0x06: "leader-arm teaching",
    0x07: "an offline trajectory",
}
_DRIVER_BITS = {
    0: "supply voltage too low",
    1: "motor too hot",
    2: "driver over current",
    3: "driver too hot",
    5: "driver error",
}
_MOTOR_BITS = {**_DRIVER_BITS, 4: "collision protection", 7: "stalled"}
_GRIPPER_BITS = {**_DRIVER_BITS, 4: "sensor error"}


def faults(status: ArmStatus, motors: tuple[int, ...], gripper: int) -> tuple[str, ...]:
    """Everything wrong that the controller, the six motors' status bits and the gripper's report; empty when well."""
    return (
        *_controller_faults(status),
        *(f"joint {joint}: {word}" for joint, bits in enumerate(motors, start=1) for word in _words(bits, _MOTOR_BITS)),
        *(f"gripper: {word}" for word in _words(gripper, _GRIPPER_BITS)),
    )


def _controller_faults(status: ArmStatus) -> Iterator[str]:
    if status.condition:
        yield _CONDITIONS.get(status.condition, f"unknown condition 0x{status.condition:02X}")
    if status.control in _FOREIGN_CONTROL:
        yield f"controlled by {_FOREIGN_CONTROL[status.control]}"
    for joint in range(6):
        if status.beyond_limit >> joint & 1:
            yield f"joint {joint + 1}: angle limit exceeded"
        if status.unreachable >> joint & 1:
            yield f"joint {joint + 1}: does not communicate"


def _words(bits: int, names: dict[int, str]) -> list[str]:
    return [word for bit, word in names.items() if bits >> bit & 1]
