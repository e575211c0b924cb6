"""A PiPER that exists only on the CAN bus: it obeys the real command frames and answers with the real feedback."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.audit import Audit
from vla_runtime.arms.piper_kinematics import flange_transform, roll_pitch_yaw, zero_angles
from vla_runtime.arms.piper_limits import (
    ANGLE_LIMITS_DECIDEGREES,
    MAX_GRIPPER_SPEED,
    MAX_JOINT_ACCELERATION,
    MAX_JOINT_SPEED,
)
from vla_runtime.arms.plant import Plant
from vla_runtime.arms.simulated_faults import SimulatedFaults

if TYPE_CHECKING:
    import can

FAST_PERIOD = 1 / 200  # [s], 14 frames each
SLOW_PERIOD = 1 / 40  # [s], 6 frames each

_LONGEST_STEP = 0.1  # [s]; after a longer pause (a suspended process) the arm does not catch up in one leap
_COMMANDS = frozenset(
    (
        frames.EMERGENCY_STOP,
        frames.CONTROL_MODE,
        *frames.JOINT_TARGETS,
        frames.GRIPPER_TARGET,
        frames.MOTOR_POWER,
        frames.LIMITS_QUERY,
    )
)
_STOPPED = 1  # ArmStatus.condition
_BEYOND_LIMIT = 4
_SUPPLY = 240  # [0.1 V]
_WARM = 32  # [°C]


class SimulatedPiper:
    """The PiPER's controller over a simulated body. One thread calls it.

    Like the arm, it moves only what is powered, under CAN control and MOVE J, no faster than the commanded share of its
    speed, and never towards a target beyond its limits. Unlike the arm, it does not fall when power is cut: it stands.

    audit: what arrived so far.
    faults: what is wrong with it.
    """

    def __init__(
        self,
        bus: can.BusABC,
        plant: Plant,
        *,
        firmware: str = "S-V1.8-2",
        clock: Callable[[], float] = time.monotonic,
        recording: Path | None = None,
        command_period: float | None = None,
        faults: SimulatedFaults | None = None,
    ) -> None:
        """``bus`` stays the caller's to shut down; ``recording``: a candump log of every command frame.

        ``command_period``: between two targets as the sender means it, in [s], for the audit of their motion on a real
        clock; None in simulated time, where the times of arrival are exact.
        Raises `BadInput` for a firmware that is not a version.
        """
        zero_angles(firmware)
        self.audit = Audit(command_period)
        self.faults = SimulatedFaults() if faults is None else faults
        self._bus = bus
        self._plant = plant
        self._firmware = firmware
        self._clock = clock
        self._recorder = _recorder(recording) if recording else None
        self._control = frames.CONTROL_STANDBY
        self._move = frames.MOVE_J
        self._speed = 0.0  # share of the full speed, 0 to 1
        self._stopped = False
        self._powered = np.zeros(7, dtype=bool)
        self._beyond_limit = 0
        self._targets = plant.positions
        self._setpoint = plant.positions
        self._now: float | None = None
        self._fast_due = self._slow_due = -np.inf

    def run(self, stop: Event) -> None:
        """Step at the feedback's rate until ``stop`` is set."""
        while not stop.is_set():
            now = self._clock()
            self.step(now)
            stop.wait(max(0.0, self._fast_due - self._clock()))

    def step(self, now: float) -> None:
        """Obey what has arrived, let the body move up to ``now`` [s], and send the feedback that is due."""
        import can

        elapsed = 0.0 if self._now is None else min(now - self._now, _LONGEST_STEP)
        self._now = now
        while (message := self._bus.recv(timeout=0)) is not None:
            if not self.faults.deaf:
                self._receive(message, now)
        self._lose_power()
        self._advance(elapsed)
        if now >= self._fast_due:
            self._send_fast()
            self._fast_due = _next(self._fast_due, FAST_PERIOD, now)
        if now >= self._slow_due:
            self._send_slow()
            self._slow_due = _next(self._slow_due, SLOW_PERIOD, now)
        for identifier, data in self.faults.due(now):
            self._bus.send(can.Message(arbitration_id=identifier, data=data, is_extended_id=False))

    def close(self) -> None:
        """Finish the recording. The bus is left open."""
        if self._recorder:
            self._recorder.stop()

    def _receive(self, message: can.Message, now: float) -> None:
        identifier, data = message.arbitration_id, bytes(message.data)
        if message.is_error_frame or message.is_remote_frame or message.is_extended_id:
            return
        if identifier == frames.FIRMWARE and data == frames.FIRMWARE_QUERY:
            self._record(message)
            text = _identity(self._firmware) if self.faults.firmware is None else self.faults.firmware.encode()
            for start in range(0, len(text), 8):
                self._send(frames.FIRMWARE, text[start : start + 8].ljust(8, bytes(1)))
        elif identifier in _COMMANDS:  # anything else is another's feedback, or our own heard back over udp
            self._record(message)
            try:
                command = frames.decode(identifier, data)
            except ValueError:
                self.audit.malformed += 1
            else:
                self._obey(identifier, command, now)

    def _record(self, message: can.Message) -> None:
        self.audit.frames[message.arbitration_id] += 1
        if self._recorder:
            self._recorder(message)

    def _obey(self, identifier: int, command: frames.Message | None, now: float) -> None:
        match command:
            case frames.Pair():
                self._aim_joints(2 * frames.JOINT_TARGETS.index(identifier), command, now)
            case frames.GripperTarget():
                self._aim_gripper(command, now)
            case frames.ControlMode():
                self._control, self._move = command.control, command.move
                self._speed = min(command.speed_percent, 100) / 100
            case frames.MotorPower():
                self._switch(command)
                self._send_message(frames.ACKNOWLEDGE, frames.Acknowledge(frames.MOTOR_POWER & 0xFF))
            case frames.EmergencyStop(code=frames.STOP):
                self._stopped = True
            case frames.EmergencyStop(code=frames.RESET):
                self._stopped = False
                self._control = frames.CONTROL_STANDBY
                self._powered[:] = False
            case frames.LimitsQuery(motor=motor, content=1) if 1 <= motor <= 6:
                lower, upper = ANGLE_LIMITS_DECIDEGREES[motor - 1]
                limits = frames.AngleLimits(motor, upper, lower, round(MAX_JOINT_SPEED * 1000))
                self._send_message(frames.ANGLE_LIMITS, limits)
            case frames.LimitsQuery(motor=motor, content=2) if 1 <= motor <= 6:
                limit = frames.AccelerationLimit(motor, round(MAX_JOINT_ACCELERATION * 1000))
                self._send_message(frames.ACCELERATION_LIMIT, limit)

    def _aim_joints(self, first: int, pair: frames.Pair, now: float) -> None:
        self._note_rest(first, first + 1)
        within = self.audit.target(first, pair, now)
        for joint, steps, allowed in zip((first, first + 1), pair, within, strict=True):
            self._beyond_limit &= ~(1 << joint)
            if not allowed:
                self._beyond_limit |= 1 << joint
            elif self._listens():
                self._targets[joint] = steps * frames.RADIANS_PER_STEP

    def _aim_gripper(self, command: frames.GripperTarget, now: float) -> None:
        self._note_rest(6)
        (within,) = self.audit.target(6, (command.opening,), now)
        self._power(6, command.code in (frames.GRIPPER_ON, frames.GRIPPER_ON_CLEAR))
        if within and self._powered[6] and not self._stopped:
            self._targets[6] = command.opening * frames.METRES_PER_STEP

    def _note_rest(self, *coordinates: int) -> None:
        for index in coordinates:
            if not self._powered[index]:
                self.audit.rest(index, float(self._plant.positions[index]))

    def _listens(self) -> bool:
        return self._control == frames.CONTROL_BY_CAN and self._move == frames.MOVE_J and not self._stopped

    def _switch(self, command: frames.MotorPower) -> None:
        everything = command.motor in frames.ALL_MOTORS
        if command.power in (frames.POWER_ON, frames.POWER_OFF) and (everything or 1 <= command.motor <= 6):
            for motor in range(7) if everything else (command.motor - 1,):
                self._power(motor, command.power == frames.POWER_ON)

    def _power(self, motor: int, on: bool) -> None:
        if on and not self._powered[motor]:  # it holds where it is until it is told otherwise
            self._setpoint[motor] = self._targets[motor] = self._plant.positions[motor]
        self._powered[motor] = on

    def _lose_power(self) -> None:
        for motor in range(7):
            if self.faults.unpowered >> motor & 1:
                self._power(motor, False)

    def _advance(self, elapsed: float) -> None:
        moving = self._powered & (not self._stopped)
        reach = np.append(np.full(6, MAX_JOINT_SPEED * self._speed), MAX_GRIPPER_SPEED) * elapsed
        gap = self._targets - self._setpoint
        stepped = np.where(np.abs(gap) <= reach, self._targets, self._setpoint + np.clip(gap, -reach, reach))
        self._setpoint = np.where(moving, stepped, self._setpoint)
        self._plant.apply(self._setpoint, elapsed)

    def _send_fast(self) -> None:
        positions, velocities = self._plant.positions, self._plant.velocities
        steps = np.rint(positions / frames.UNITS).astype(int).tolist()
        self._send_message(frames.ARM_STATUS, self._status())
        transform = flange_transform(positions[:6], self._firmware)
        pose = np.rint(transform[:3, 3] / frames.METRES_PER_STEP).astype(int).tolist()
        pose += np.rint(np.array(roll_pitch_yaw(transform)) / frames.RADIANS_PER_STEP).astype(int).tolist()
        for index in range(3):
            self._send_message(frames.END_POSE[index], frames.Pair(*pose[2 * index : 2 * index + 2]))
        for index in range(3):
            self._send_message(frames.JOINTS[index], frames.Pair(*steps[2 * index : 2 * index + 2]))
        gripper = frames.GripperFeedback(steps[6], 0, frames.MOTOR_ENABLED if self._powered[6] else 0)
        self._send_message(frames.GRIPPER, gripper)
        for joint, identifier in enumerate(frames.MOTOR_FAST):
            speed = int(np.clip(np.rint(velocities[joint] * 1000), -32768, 32767))
            self._send_message(identifier, frames.MotorFast(speed, 0, steps[joint]))

    def _status(self) -> frames.ArmStatus:
        condition = _BEYOND_LIMIT if self._beyond_limit else 0
        if self._stopped:
            condition = _STOPPED
        if self.faults.condition is not None:
            condition = self.faults.condition
        moving = int(bool(np.any(self._powered & (self._setpoint != self._targets))))
        return frames.ArmStatus(self._control, condition, self._move, moving=moving, beyond_limit=self._beyond_limit)

    def _send_slow(self) -> None:
        for joint, identifier in enumerate(frames.MOTOR_SLOW):
            status = self.faults.motor_bits[joint] | (frames.MOTOR_ENABLED if self._powered[joint] else 0)
            self._send_message(identifier, frames.MotorSlow(_SUPPLY, _WARM, _WARM, status))

    def _send_message(self, identifier: int, message: frames.Message) -> None:
        self._send(identifier, frames.encode(identifier, message))

    def _send(self, identifier: int, data: bytes) -> None:
        assert self._now is not None
        self.faults.outgoing(self._now, identifier, data)


def _identity(firmware: str) -> bytes:
    """The controller's identity as it answers it, in eleven frames: the version has a field of 8 bytes, without an end.

    Hardware, motor batch, kind of node, version, date and number of the node lie where the PiPER has them.
    """
    text = bytearray(88)
    fields = {0: "H-V1.2-1", 16: "10", 32: "ARM_MC", 60: firmware[:8], 68: "250925", 76: "15"}
    for start, value in fields.items():
        text[start : start + len(value)] = value.encode()
    return bytes(text)


def _next(due: float, period: float, now: float) -> float:
    """When to send again: on the beat, but what was missed stays missed, as on the arm."""
    return due + period if due + period > now else now + period


def _recorder(path: Path) -> can.CanutilsLogWriter:
    import can

    return can.CanutilsLogWriter(path)
