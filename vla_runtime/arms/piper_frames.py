"""What the PiPER's CAN frames hold: 8 bytes, big-endian, 11-bit identifiers, in the units of the wire.

From the manufacturer's protocol, version 2 (piper_sdk, ``piper_msgs/msg_v2``). ``encode`` and ``decode`` are inverse to
each other; the identifier says which joints or which motor a frame speaks of.
"""

from __future__ import annotations

from math import pi
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Commands, controller ← computer.
EMERGENCY_STOP = 0x150
CONTROL_MODE = 0x151
JOINT_TARGETS = (0x155, 0x156, 0x157)  # joints 1–2, 3–4, 5–6
GRIPPER_TARGET = 0x159
MOTOR_POWER = 0x471
LIMITS_QUERY = 0x472

# Feedback, controller → computer.
ARM_STATUS = 0x2A1
END_POSE = (0x2A2, 0x2A3, 0x2A4)  # x–y, z–rx, ry–rz
JOINTS = (0x2A5, 0x2A6, 0x2A7)  # joints 1–2, 3–4, 5–6
GRIPPER = 0x2A8
MOTOR_FAST = (0x251, 0x252, 0x253, 0x254, 0x255, 0x256)
MOTOR_SLOW = (0x261, 0x262, 0x263, 0x264, 0x265, 0x266)
ANGLE_LIMITS = 0x473
ACKNOWLEDGE = 0x476
ACCELERATION_LIMIT = 0x47C

# Query and answer share this one. The answer is text, so its content tells them apart.
FIRMWARE = 0x4AF
FIRMWARE_QUERY = bytes((1, 0, 0, 0, 0, 0, 0, 0))

CONTROL_BY_CAN = 1
CONTROL_STANDBY = 0
MOVE_J = 1
MOVE_MIT = 4
STOP, RESET = 1, 2  # of EMERGENCY_STOP. Reset cuts power: the arm drops
POWER_OFF, POWER_ON = 1, 2  # of MOTOR_POWER. Off drops the arm
ALL_MOTORS = (7, 0xFF)  # the six joints and the gripper
GRIPPER_OFF, GRIPPER_ON, GRIPPER_OFF_CLEAR, GRIPPER_ON_CLEAR = 0, 1, 2, 3
MOTOR_ENABLED = 1 << 6  # in MotorSlow.status and GripperFeedback.status

RADIANS_PER_STEP = pi / 180_000  # joint angles count 0.001°
METRES_PER_STEP = 1e-6  # the gripper's opening counts 0.001 mm
UNITS = np.array([RADIANS_PER_STEP] * 6 + [METRES_PER_STEP])  # of six joints and a gripper


class EmergencyStop(NamedTuple):
    """STOP or RESET; trajectory and teaching commands, 0 for none."""

    code: int
    trajectory: int = 0
    teach: int = 0


class ControlMode(NamedTuple):
    """Who controls, how the arm moves (0 P, 1 J, 2 L, 3 C, 4 M), speed in percent, 0xAD for MIT, seconds of
    residence, mounting."""

    control: int
    move: int
    speed_percent: int
    mit: int = 0
    residence: int = 0
    mount: int = 0


class Pair(NamedTuple):
    """Two neighbouring coordinates: joints in 0.001°, or a pose in 0.001 mm and 0.001°."""

    first: int
    second: int


class GripperTarget(NamedTuple):
    """Opening in 0.001 mm, effort in 0.001 N·m, GRIPPER_ON or another code, 0xAE to set the zero here."""

    opening: int
    effort: int
    code: int
    set_zero: int = 0


class MotorPower(NamedTuple):
    """Motor 1–6, or one of ALL_MOTORS; POWER_OFF or POWER_ON."""

    motor: int
    power: int


class LimitsQuery(NamedTuple):
    """Motor 1–6; 1 asks for ANGLE_LIMITS, 2 for ACCELERATION_LIMIT."""

    motor: int
    content: int


class ArmStatus(NamedTuple):
    """Modes and condition; bit i of ``beyond_limit`` and ``unreachable`` speaks of joint i + 1."""

    control: int
    condition: int
    move: int
    teach: int = 0
    moving: int = 0
    trajectory_point: int = 0
    beyond_limit: int = 0
    unreachable: int = 0


class GripperFeedback(NamedTuple):
    """Opening in 0.001 mm, effort in 0.001 N·m, status bits."""

    opening: int
    effort: int
    status: int


class MotorFast(NamedTuple):
    """Speed in 0.001 rad/s, current in 0.001 A, position in the motor's own counts."""

    speed: int
    current: int
    position: int


class MotorSlow(NamedTuple):
    """Supply in 0.1 V, driver and motor temperature in °C, status bits, supply current in 0.001 A."""

    voltage: int
    driver_temperature: int
    motor_temperature: int
    status: int
    current: int = 0


class AngleLimits(NamedTuple):
    """Motor 1–6, its upper and lower limit in 0.1°, its greatest speed in 0.001 rad/s."""

    motor: int
    upper: int
    lower: int
    speed: int


class AccelerationLimit(NamedTuple):
    """Motor 1–6 and its greatest acceleration in 0.001 rad/s²."""

    motor: int
    acceleration: int


class Acknowledge(NamedTuple):
    """The last byte of the setting frame's identifier, and whether a zero was set."""

    identifier: int
    zero_set: int = 0


Message = (
    EmergencyStop
    | ControlMode
    | Pair
    | GripperTarget
    | MotorPower
    | LimitsQuery
    | ArmStatus
    | GripperFeedback
    | MotorFast
    | MotorSlow
    | AngleLimits
    | AccelerationLimit
    | Acknowledge
)

_LAYOUTS: dict[int, tuple[type[Message], Struct]] = {
    EMERGENCY_STOP: (EmergencyStop, Struct(">3B5x")),
    CONTROL_MODE: (ControlMode, Struct(">6B2x")),
    GRIPPER_TARGET: (GripperTarget, Struct(">iH2B")),
    MOTOR_POWER: (MotorPower, Struct(">2B6x")),
    LIMITS_QUERY: (LimitsQuery, Struct(">2B6x")),
    ARM_STATUS: (ArmStatus, Struct(">8B")),
    GRIPPER: (GripperFeedback, Struct(">ihBx")),
    ANGLE_LIMITS: (AngleLimits, Struct(">BhhHx")),
    ACCELERATION_LIMIT: (AccelerationLimit, Struct(">BH5x")),
    ACKNOWLEDGE: (Acknowledge, Struct(">2B6x")),
    **dict.fromkeys((*JOINT_TARGETS, *END_POSE, *JOINTS), (Pair, Struct(">2i"))),
    **dict.fromkeys(MOTOR_FAST, (MotorFast, Struct(">2hi"))),
    **dict.fromkeys(MOTOR_SLOW, (MotorSlow, Struct(">HhbBH"))),
}


def encode(identifier: int, message: Message) -> bytes:
    """The 8 bytes of ``message`` under ``identifier``.

    Raises ``KeyError`` for an identifier that carries no message, ``struct.error`` for a value outside its field.
    """
    return _LAYOUTS[identifier][1].pack(*message)


def decode(identifier: int, data: bytes) -> Message | None:
    """What ``data`` says under ``identifier``, or None for an identifier that is not in this protocol.

    Raises ``ValueError`` when ``data`` is not 8 bytes.
    """
    if identifier not in _LAYOUTS:
        return None
    if len(data) != 8:
        raise ValueError(f"frame 0x{identifier:03X} has {len(data)} bytes, not 8")
    kind, layout = _LAYOUTS[identifier]
    return kind(*layout.unpack(data))


def whole_steps(target: NDArray[np.float64]) -> list[int]:
    """A target in [rad] and [m], shape (7,), in the wire's whole steps, never farther from zero than it. Length 7.

    Every coordinate's limits enclose zero, so cutting towards it keeps a target at a limit within that limit. A
    billionth of a step is forgiven, or 1° would come out as 0.999°. Raises ``ValueError`` for a target that is not
    seven finite numbers.
    """
    if target.shape != (7,) or not np.all(np.isfinite(target)):
        raise ValueError(f"target {target} is not seven finite numbers")
    steps = target / UNITS
    return [int(step) for step in np.trunc(steps + np.copysign(1e-6, steps))]
