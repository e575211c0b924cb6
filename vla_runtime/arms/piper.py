"""The AgileX PiPER through its manufacturer's SDK: one thread sends, and only fresh feedback is believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.arms.can_bus import isolate, parse_spec, remedy
from vla_runtime.arms.gripper_speed import GripperSpeed
from vla_runtime.arms.piper_faults import faults
from vla_runtime.arms.piper_firmware import notes, stuck_in_mit_mode, version_in
from vla_runtime.arms.posture_to_hold import SILENT_AFTER, posture_to_hold
from vla_runtime.arms.send_density import SendDensity
from vla_runtime.arms.sending_thread import SendingThread
from vla_runtime.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    import can

_READ_TIMEOUT = 0.1  # [s], how long closing may wait for the reading thread
_ASK_AGAIN_AFTER = 0.25  # [s]; an arm that is just starting drops the question for its firmware
_BUS_OFF = 0x40  # linux/can/error.h, CAN_ERR_BUSOFF, in the identifier of an error frame
_BUS_OFF_FAULT = "the CAN bus is off: nothing reaches the arm"
_PARTS = {
    **dict.fromkeys(frames.JOINTS, "joint angles"),
    frames.ARM_STATUS: "arm status",
    frames.GRIPPER: "gripper",
    **{identifier: f"speed of joint {joint}" for joint, identifier in enumerate(frames.MOTOR_FAST, start=1)},
    **{identifier: f"motor status of joint {joint}" for joint, identifier in enumerate(frames.MOTOR_SLOW, start=1)},
}


class Piper:
    """An `Arm` over piper_sdk.

    The SDK builds and parses the frames; its threads, its limits and its opinion of liveness are not used. It prints a
    failed send to its log and goes on; here a failed send raises `WorkFailed`.

    Targets are joint positions under MOVE J. The controller's own end-pose modes are not used: it would choose the
    joints, and no limit of ours would hold for them. Nor is MIT mode, which bypasses its planning.
    """

    def __init__(
        self,
        can_spec: str,
        *,
        speed_percent: int = 100,
        gripper_effort: float = 1.0,
        send_every: int = 1,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``can_spec`` as in `can_bus`; ``gripper_effort`` in [N·m]; ``connect_timeout`` in [s].

        ``send_every``: one in so many targets goes on the bus, and the one the arm rests at always (`SendDensity`).
        ``clock`` gives the stamps of the feedback, in [s]. Raises `BadInput` for a value the arm does not know.
        """
        self._spec = parse_spec(can_spec)
        if not 1 <= speed_percent <= 100:
            raise BadInput(f"speed_percent is {speed_percent}: give 1 to 100")
        if not 0 < gripper_effort <= 5:
            raise BadInput(f"gripper_effort is {gripper_effort} N·m: give more than 0 and at most 5, sensibly 0.5 to 3")
        self._can_spec = can_spec
        self._speed_percent = speed_percent
        self._gripper_effort = round(gripper_effort * 1000)
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._sdk: Any = None
        self._density = SendDensity(send_every)
        self._sending_thread = SendingThread()
        self._reader: threading.Thread | None = None
        self._talking = threading.Lock()  # or each frame sent would let the reading thread in between
        self._stopping = threading.Event()
        self._complete = threading.Event()
        self._arrivals: dict[int, float] = {}
        self._fresh_joints: set[int] = set()
        self._gripper_speed = GripperSpeed()
        self._identity = bytearray()
        self._identified = threading.Event()
        self._firmware: str | None = None
        self._notes: tuple[str, ...] = ()
        self._bus_off = False
        self._feedback: ArmFeedback | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is peculiar about the arm's firmware, in words."""
        return self._notes

    def connect(self) -> None:
        """Open the bus, ask for the firmware's version and wait for it and for the first complete feedback.

        Raises `WorkFailed` when the bus does not open, when this process already holds an arm on it, when the version
        or some part of the feedback does not come in time, or when that firmware cannot be driven.
        """
        from piper_sdk import C_PiperInterface_V2, LogLevel

        channel = self._spec.channel
        if channel in C_PiperInterface_V2._instances:  # the SDK would hand out the same object, threads and all
            raise WorkFailed(f"an arm on '{self._can_spec}' is already open in this process: close it first")
        self._sdk = C_PiperInterface_V2(channel, judge_flag=False, can_auto_init=False, logger_level=LogLevel.SILENT)
        try:
            self._sdk.CreateCanBus(channel, bustype=self._spec.interface, judge_flag=False)
            bus = self._sdk.GetCanBus().recv_bus
        except ConnectionError:
            bus = None
        if bus is None:
            self._forget_sdk()
            raise WorkFailed(f"CAN bus '{self._can_spec}' did not open: {remedy(self._spec)}")
        self._adopt(bus)
        self._stopping.clear()
        self._reader = threading.Thread(target=self._read, args=(bus,), name=f"piper {self._can_spec}", daemon=True)
        self._reader.start()
        try:
            self._await_arm()
        except WorkFailed:
            self.close()
            raise

    def _await_arm(self) -> None:
        deadline = time.monotonic() + self._connect_timeout
        if not self._complete.wait(self._connect_timeout):
            missing = sorted({part for identifier, part in _PARTS.items() if identifier not in self._arrivals})
            heard = f"no {', '.join(missing)}" if missing else "everything once and nothing more"
            heard = "nothing" if len(missing) == len(set(_PARTS.values())) else heard
            raise WorkFailed(
                f"the arm on '{self._can_spec}' said {heard} within {self._connect_timeout:g} s: "
                f"check that it is powered and wired, and {remedy(self._spec)}"
            )
        while not self._identified.is_set() and (left := deadline - time.monotonic()) > 0:
            self._identity.clear()
            self._sdk.SearchPiperFirmwareVersion()
            self._identified.wait(min(left, _ASK_AGAIN_AFTER))
        if self._firmware is None:
            raise WorkFailed(
                f"the arm on '{self._can_spec}' did not tell its firmware version within {self._connect_timeout:g} s: "
                "its protocol and the zeros of its joints are not known, so it is not driven; power it off and on"
            )
        self._notes = notes(self._firmware)

    def feedback(self) -> ArmFeedback | None:
        """The newest feedback, or None before the first complete one. Callable from any thread."""
        return self._feedback

    def enable(self) -> None:
        """Ask for motor power, one motor after the other, holding the measured position; `feedback` tells when.

        Raises `WorkFailed` when the measured position is not fresh, or when a joint stands so far beyond its limits
        that holding it within them would be a leap.
        """
        hold = posture_to_hold(f"the arm on '{self._can_spec}'", self._feedback, self._clock())
        self._density.restart()
        self._aim_joints(frames.whole_steps(hold))  # before power, so that no older target is waiting
        for motor in range(1, 7):  # all at once would also close the gripper
            self._sdk.EnableArm(motor)
        self.command(hold)  # and after, for a controller that ignored targets without power

    def command(self, positions: NDArray[np.float64]) -> None:
        """Send one target: six joints in [rad], gripper in [m]. Shape (7,). Already limited by the caller.

        With ``send_every`` above 1 it may be left out. The control mode goes before every target, because the arm
        forgets it whenever its controller restarts.
        Raises ``ValueError`` for a target that is not seven finite numbers, `WorkFailed` when the bus does not take it.
        """
        steps = frames.whole_steps(np.asarray(positions, dtype=np.float64))
        if not self._density.due(steps):
            return
        with self._talking:
            self._aim_joints(steps)
            self._sdk.GripperCtrl(steps[6], self._gripper_effort, frames.GRIPPER_ON)

    def disable(self) -> None:
        """Cut motor power. THE ARM DROPS: only ever on the user's explicit word."""
        for motor in range(1, 7):
            self._sdk.DisableArm(motor)
        self._sdk.GripperCtrl(0, self._gripper_effort, frames.GRIPPER_OFF)

    def close(self) -> None:
        """Leave the bus. Sends nothing: the arm keeps holding its last target. Afterwards `connect` works again."""
        if self._sdk is None:
            return
        self._stopping.set()
        if self._reader is not None:
            self._reader.join()
        self._sdk.GetCanBus().Close()
        self._forget_sdk()

    def _aim_joints(self, steps: list[int]) -> None:
        self._sdk.MotionCtrl_2(frames.CONTROL_BY_CAN, frames.MOVE_J, self._speed_percent)
        self._sdk.JointCtrl(*steps[:6])

    def _forget_sdk(self) -> None:
        type(self._sdk)._instances.pop(self._spec.channel, None)
        self._sdk = self._reader = self._feedback = self._firmware = None
        self._bus_off = False
        self._sending_thread.release()
        self._complete.clear()
        self._identified.clear()
        self._arrivals.clear()
        self._fresh_joints.clear()

    def _adopt(self, bus: can.BusABC) -> None:
        """Send and receive on one bus, and let every send pass by us.

        The SDK has one message for all sends: two threads would overwrite each other's targets.
        """
        isolate(bus, self._spec)
        port = self._sdk.GetCanBus()
        port.send_bus.shutdown()  # its receive queue, which nobody empties, would grow for ever
        port.send_bus = bus
        unchecked = port.SendCanMessage

        def send(identifier: int, data: Any, *args: Any) -> Any:
            self._sending_thread.claim()
            outcome = unchecked(identifier, data, *args)
            if outcome is not port.CAN_STATUS.SEND_MESSAGE_SUCCESS:
                raise WorkFailed(f"CAN bus '{self._can_spec}' did not take frame 0x{identifier:03X} ({outcome.name})")
            return outcome

        port.SendCanMessage = send

    def _read(self, bus: can.BusABC) -> None:
        import can

        while not self._stopping.is_set():
            try:
                message = bus.recv(_READ_TIMEOUT)
            except (can.CanError, OSError):  # the interface went down: the feedback grows old, which says it all
                self._stopping.wait(_READ_TIMEOUT)
                continue
            if message is not None:
                with self._talking:
                    self._hear(message)

    def _hear(self, message: can.Message) -> None:
        if message.is_error_frame:
            if message.arbitration_id & _BUS_OFF:
                self._note_bus_off()
        elif message.is_extended_id or message.dlc != 8 or message.is_remote_frame:
            return  # no frame of the PiPER's; the SDK would fill what is missing from nowhere
        elif message.arbitration_id == frames.FIRMWARE:
            self._identify(bytes(message.data))
        elif message.arbitration_id in _PARTS:
            self._bus_off = False
            self._sdk.ParseCANFrame(message)
            self._arrived(message)

    def _note_bus_off(self) -> None:
        """Said at once: no frame will come any more that could carry it."""
        measured = self._feedback
        if measured is not None and not self._bus_off:
            self._feedback = replace(measured, faults=(*measured.faults, _BUS_OFF_FAULT))
        self._bus_off = True

    def _identify(self, data: bytes) -> None:
        if data == frames.FIRMWARE_QUERY or self._firmware is not None:  # over udp we hear our own question
            return
        self._identity += data
        self._firmware = version_in(bytes(self._identity))
        if self._firmware is not None:
            self._identified.set()

    def _arrived(self, message: can.Message) -> None:
        identifier = message.arbitration_id
        waited = max(0.0, time.time() - message.timestamp)  # in the kernel's queue, and on its clock
        now = self._clock() - waited
        self._arrivals[identifier] = now
        if identifier in frames.JOINTS:
            self._fresh_joints.add(identifier)
            if len(self._fresh_joints) == len(frames.JOINTS) and len(self._arrivals) == len(_PARTS):
                self._fresh_joints.clear()
                self._feedback = self._snapshot(now)
                self._complete.set()

    def _snapshot(self, now: float) -> ArmFeedback:
        """The SDK's live objects, copied in the thread that writes them, once every joint has spoken anew."""
        joints = self._sdk.GetArmJointMsgs().joint_state
        gripper = self._sdk.GetArmGripperMsgs().gripper_state
        fast, slow = self._sdk.GetArmHighSpdInfoMsgs(), self._sdk.GetArmLowSpdInfoMsgs()
        steps = [getattr(joints, f"joint_{joint}") for joint in range(1, 7)] + [gripper.grippers_angle]
        positions = np.array(steps) * frames.UNITS
        speeds = [getattr(fast, f"motor_{joint}").motor_speed / 1000 for joint in range(1, 7)]
        motors = tuple(getattr(slow, f"motor_{joint}").foc_status_code for joint in range(1, 7))
        return ArmFeedback(
            stamp=now,
            positions=positions,
            velocities=np.array(
                [*speeds, self._gripper_speed.update(self._arrivals[frames.GRIPPER], float(positions[6]))]
            ),
            enabled=all(bits & frames.MOTOR_ENABLED for bits in motors),
            faults=faults(self._status(), motors, gripper.status_code) + self._mode_fault() + self._silences(now),
            firmware=self._firmware,
        )

    def _status(self) -> frames.ArmStatus:
        status = self._sdk.GetArmStatus().arm_status
        return frames.ArmStatus(
            int(status.ctrl_mode),
            int(status.arm_status),
            int(status.mode_feed),
            beyond_limit=status.err_code >> 8,
            unreachable=status.err_code & 0xFF,
        )

    def _mode_fault(self) -> tuple[str, ...]:
        in_mit = int(self._sdk.GetArmStatus().arm_status.mode_feed) == frames.MOVE_MIT
        if in_mit and self._firmware is not None and stuck_in_mit_mode(self._firmware):
            return (f"MIT mode, which firmware {self._firmware} does not leave for joint targets: power it off and on",)
        return ()

    def _silences(self, now: float) -> tuple[str, ...]:
        """A part that stopped speaking while the joints go on: its last word must not be believed."""
        return tuple(
            f"{part}: not heard for {now - self._arrivals[identifier]:.1f} s"
            for identifier, part in _PARTS.items()
            if now - self._arrivals[identifier] > SILENT_AFTER
        )
