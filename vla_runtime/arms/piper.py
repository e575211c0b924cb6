"""The AgileX PiPER through its manufacturer's SDK: one thread sends, and only fresh feedback is believed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.arms.can_bus import isolate, parse_spec, remedy
from vla_runtime.arms.piper_faults import faults
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    import can

_SILENT_AFTER = 0.5  # [s]; the slowest feedback frames come every 0.025 s
_READ_TIMEOUT = 0.1  # [s], how long closing may wait for the reading thread
_RESTING_BEYOND = 0.05  # [rad]; a joint resting on its stop may measure a little outside its limits
_GRIPPER_SPEED_OVER = 0.02  # [s]; over less, the gripper's speed would be the noise of arrival times
_UNITS = np.array([frames.RADIANS_PER_STEP] * 6 + [frames.METRES_PER_STEP])
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
    """

    def __init__(
        self,
        can_spec: str,
        *,
        speed_percent: int = 100,
        gripper_effort: float = 1.0,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``can_spec`` as in `can_bus`; ``gripper_effort`` in [N·m]; ``connect_timeout`` in [s].

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
        self._sending_thread: int | None = None
        self._reader: threading.Thread | None = None
        self._stopping = threading.Event()
        self._complete = threading.Event()
        self._arrivals: dict[int, float] = {}
        self._fresh_joints: set[int] = set()
        self._gripper_mark: tuple[float, float] | None = None
        self._gripper_speed = 0.0
        self._feedback: ArmFeedback | None = None

    def connect(self) -> None:
        """Open the bus and wait for the first complete feedback.

        Raises `WorkFailed` when the bus does not open, when this process already holds an arm on it, or when some part
        of the feedback does not come in time.
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
        if not self._complete.wait(self._connect_timeout):
            missing = sorted({part for identifier, part in _PARTS.items() if identifier not in self._arrivals})
            self.close()
            heard = "nothing" if len(missing) == len(set(_PARTS.values())) else f"no {', '.join(missing)}"
            raise WorkFailed(
                f"the arm on '{self._can_spec}' said {heard} within {self._connect_timeout:g} s: "
                f"check that it is powered and wired, and {remedy(self._spec)}"
            )

    def feedback(self) -> ArmFeedback | None:
        """The newest feedback, or None before the first complete one. Callable from any thread."""
        return self._feedback

    def enable(self) -> None:
        """Ask for motor power, one motor after the other, holding the measured position; `feedback` tells when.

        Raises `WorkFailed` when the measured position is not fresh, or when a joint stands so far beyond its limits
        that holding it within them would be a leap.
        """
        measured = self._feedback
        if measured is None or self._clock() - measured.stamp > _SILENT_AFTER:
            raise WorkFailed(f"the arm on '{self._can_spec}' gives no fresh feedback: it is not enabled")
        hold = np.clip(measured.positions, *firmware_limits().T)
        beyond = np.abs(hold - measured.positions)[:6]
        if np.max(beyond) > _RESTING_BEYOND:
            joint = int(np.argmax(beyond))
            raise WorkFailed(
                f"joint {joint + 1} stands {np.degrees(beyond[joint]):.1f}° beyond its limits: it is not enabled; "
                "bring it back by hand, or check its zero"
            )
        self._aim_joints(_steps(hold))  # before power, so that no older target is waiting
        for motor in range(1, 7):  # all at once would also close the gripper
            self._sdk.EnableArm(motor)
        self.command(hold)  # and after, for a controller that ignored targets without power

    def command(self, positions: NDArray[np.float64]) -> None:
        """Send one target: six joints in [rad], gripper in [m]. Shape (7,). Already limited by the caller.

        The control mode goes before every target, because the arm forgets it whenever its controller restarts.
        Raises ``ValueError`` for a target that is not seven finite numbers, `WorkFailed` when the bus does not take it.
        """
        target = np.asarray(positions, dtype=np.float64)
        if target.shape != (7,) or not np.all(np.isfinite(target)):
            raise ValueError(f"target {target} is not seven finite numbers")
        steps = _steps(target)
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
        self._sdk = self._reader = self._sending_thread = self._feedback = None
        self._complete.clear()
        self._arrivals.clear()
        self._fresh_joints.clear()

    def _adopt(self, bus: can.BusABC) -> None:
        """Send and receive on one bus, and let every send pass by us."""
        isolate(bus, self._spec)
        port = self._sdk.GetCanBus()
        port.send_bus.shutdown()  # its receive queue, which nobody empties, would grow for ever
        port.send_bus = bus
        unchecked = port.SendCanMessage

        def send(identifier: int, data: Any, *args: Any) -> Any:
            self._claim_sending_thread()
            outcome = unchecked(identifier, data, *args)
            if outcome is not port.CAN_STATUS.SEND_MESSAGE_SUCCESS:
                raise WorkFailed(f"CAN bus '{self._can_spec}' did not take frame 0x{identifier:03X} ({outcome.name})")
            return outcome

        port.SendCanMessage = send

    def _claim_sending_thread(self) -> None:
        """The SDK has one message for all sends: two threads would overwrite each other's targets."""
        thread = threading.get_ident()
        if self._sending_thread is None:
            self._sending_thread = thread
        if thread != self._sending_thread:
            raise RuntimeError(f"thread '{threading.current_thread().name}' sends to an arm that another thread drives")

    def _read(self, bus: can.BusABC) -> None:
        import can

        while not self._stopping.is_set():
            try:
                message = bus.recv(_READ_TIMEOUT)
            except (can.CanError, OSError):  # the interface went down: the feedback grows old, which says it all
                self._stopping.wait(_READ_TIMEOUT)
                continue
            if message is not None and not (message.is_error_frame or message.is_extended_id):
                self._sdk.ParseCANFrame(message)
                self._arrived(message)

    def _arrived(self, message: can.Message) -> None:
        identifier = message.arbitration_id
        if identifier not in _PARTS:
            return
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
        positions = np.array(steps) * _UNITS
        speeds = [getattr(fast, f"motor_{joint}").motor_speed / 1000 for joint in range(1, 7)]
        motors = tuple(getattr(slow, f"motor_{joint}").foc_status_code for joint in range(1, 7))
        return ArmFeedback(
            stamp=now,
            positions=positions,
            velocities=np.array([*speeds, self._gripper_velocity(float(positions[6]))]),
            enabled=all(bits & frames.MOTOR_ENABLED for bits in motors),
            faults=faults(self._status(), motors, gripper.status_code) + self._silences(now),
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

    def _gripper_velocity(self, opening: float) -> float:
        """The arm does not report it: the difference of openings over their times, in [m/s]."""
        arrival = self._arrivals[frames.GRIPPER]
        if self._gripper_mark is None:
            self._gripper_mark = arrival, opening
        elapsed = arrival - self._gripper_mark[0]
        if elapsed >= _GRIPPER_SPEED_OVER:
            self._gripper_speed = (opening - self._gripper_mark[1]) / elapsed
            self._gripper_mark = arrival, opening
        return self._gripper_speed

    def _silences(self, now: float) -> tuple[str, ...]:
        """A part that stopped speaking while the joints go on: its last word must not be believed."""
        return tuple(
            f"{part}: not heard for {now - self._arrivals[identifier]:.1f} s"
            for identifier, part in _PARTS.items()
            if now - self._arrivals[identifier] > _SILENT_AFTER
        )


def _steps(target: NDArray[np.float64]) -> list[int]:
    """Whole steps of the wire, never farther from zero than ``target``.

    Every coordinate's limits enclose zero, so cutting towards it keeps a target at a limit within that limit. A
    billionth of a step is forgiven, or 1° would come out as 0.999°.
    """
    steps = target / _UNITS
    return [int(step) for step in np.trunc(steps + np.copysign(1e-6, steps))]
