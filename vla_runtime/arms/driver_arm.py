"""An arm behind a ROS driver of its manufacturer: what the drivers have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.arm import JOINT_NAMES, ArmFeedback
from vla_runtime.arms.driver_link import DriverLink, DriverTopics, JointMessage
from vla_runtime.arms.gripper_speed import GripperSpeed
from vla_runtime.arms.posture_to_hold import posture_to_hold
from vla_runtime.arms.send_density import SendDensity
from vla_runtime.arms.sending_thread import SendingThread
from vla_runtime.errors import WorkFailed

_LOOK_AGAIN_AFTER = 0.02  # [s]
_PARAMETERS_WITHIN = 0.5  # [s], at least
_POWER_WITHIN = 0.5  # [s], where the driver does not answer; its gripper has closed and opened again by then


class DriverArm:
    """An `Arm` over a `DriverLink`. A subclass says what its driver is called, and what its messages mean.

    The feedback's stamp is the driver's, which is when the CAN frame came; a stamp that does not advance is an old
    message said again, and one from the future counts as now. So a driver whose arm died goes stale although it still
    publishes. Nothing is sent before `enable`, and nothing after `close`.

    No standard message tells motor power or faults, and the drivers' own messages are theirs alone. So ``enabled`` is
    what was asked and granted, or where the driver never answers, asked half a second ago. Of all that can be wrong,
    only silence, a rival and an arm that does not follow are seen; collision, stall, temperature, joint communication
    and the emergency stop are not.
    """

    DRIVER: str
    TOPICS: DriverTopics
    PARAMETERS: tuple[str, ...]  # those of the driver's own that `check_parameters` looks at

    def __init__(
        self,
        link: DriverLink,
        *,
        send_every: int = 1,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``connect_timeout`` in [s]; ``clock`` gives [s] since the epoch, as the driver's stamps do."""
        self._link = link
        self._density = SendDensity(send_every)
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._sending_thread = SendingThread()
        self._gripper_speed = GripperSpeed()
        self._heard_first = threading.Event()
        self._unreadable: str | None = None
        self._feedback: ArmFeedback | None = None
        self._power_asked: float | None = None
        self._power_granted = False
        self._power_refused: str | None = None
        self._opening = 0.0

    # What a subclass writes.

    def check_parameters(self, parameters: Mapping[str, object]) -> None:
        """Raises `WorkFailed` where the driver runs with a parameter that this driver cannot be used with."""
        raise NotImplementedError

    def message(self, stamp: float, target: list[int]) -> JointMessage:
        """A target in whole steps of the wire, length 7, as the driver reads it."""
        raise NotImplementedError

    def measured(self, message: JointMessage) -> NDArray[np.float64]:
        """The posture in [rad] and [m], shape (7,), of a message with every joint in the order of `JOINT_NAMES`."""
        raise NotImplementedError

    # What an `Arm` is.

    @property
    def notes(self) -> tuple[str, ...]:
        """What this driver cannot tell."""
        return (
            f"{self.DRIVER} tells neither motor power nor faults in standard messages: a collision, a stall, a hot or "
            "silent motor and the emergency stop are not seen, only that the arm does not follow; arm:=sdk sees them",
        )

    def connect(self) -> None:
        """Wait for the first feedback, for the driver to listen, and read its parameters.

        Raises `WorkFailed` when there is no driver, somebody else commands it too, or it is not set up for this.
        """
        self._link.open(self._heard)
        try:
            self._await_driver()
        except WorkFailed:
            self.close()
            raise

    def feedback(self) -> ArmFeedback | None:
        """The newest feedback, or None before the first complete one. Callable from any thread."""
        return self._feedback

    def enable(self) -> None:
        """Ask for motor power; from then on the targets go out, and the gripper's is its opening until power is there.

        Raises `WorkFailed` as `posture_to_hold` does, or where somebody else commands the driver too.
        """
        self._sending_thread.claim()
        self._opening = float(posture_to_hold(f"the arm behind {self.DRIVER}", self._feedback, self._clock())[6])
        self._refuse_complaints()
        self._density.restart()
        self._power_refused = None
        self._power_granted = False
        self._power_asked = asked = self._clock()
        self._link.power(True, lambda granted, message: self._answered(asked, granted, message))

    def command(self, positions: NDArray[np.float64]) -> None:
        """Send one target: six joints in [rad], gripper in [m]. Shape (7,). Already limited by the caller.

        Raises ``ValueError`` for a target that is not seven finite numbers.
        """
        self._sending_thread.claim()
        target = np.array(positions, dtype=np.float64)
        if self._power_asked is not None and not self._powered(self._clock()) and target.shape == (7,):
            target[6] = self._opening  # some drivers close the gripper when they power it
        steps = frames.whole_steps(target)
        if self._density.due(steps):
            self._link.command(self.message(self._clock(), steps))

    def disable(self) -> None:
        """Cut motor power. THE ARM DROPS: only ever on the user's explicit word."""
        self._sending_thread.claim()
        self._power_asked = None
        self._link.power(False, lambda granted, message: self._answered(None, granted, message))

    def close(self) -> None:
        """Leave the driver alone. Sends nothing: the arm keeps holding its last target."""
        self._link.close()
        self._sending_thread.release()
        self._heard_first.clear()
        self._feedback = self._power_asked = self._power_refused = self._unreadable = None

    def _await_driver(self) -> None:
        deadline = time.monotonic() + self._connect_timeout
        while not self._heard_first.is_set() or self._link.complaints():
            if time.monotonic() >= deadline:
                self._refuse_complaints()
                heard = "nothing" if self._unreadable is None else self._unreadable
                raise WorkFailed(
                    f"{self.DRIVER} said {heard} within {self._connect_timeout:g} s: start it first, in the same "
                    "namespace and ROS_DOMAIN_ID, with the arm powered and wired"
                )
            time.sleep(_LOOK_AGAIN_AFTER)
        self.check_parameters(
            self._link.parameters(self.PARAMETERS, max(_PARAMETERS_WITHIN, deadline - time.monotonic()))
        )

    def _refuse_complaints(self) -> None:
        complaints = self._link.complaints()
        if complaints:
            raise WorkFailed(f"{self.DRIVER} cannot be used: {'; '.join(complaints)}")

    def _heard(self, message: JointMessage) -> None:
        now = self._clock()
        before = self._feedback
        ordered = _in_order(message)
        if ordered is None:
            self._unreadable = f"no joints named {', '.join(JOINT_NAMES)} with a position each (its gripper is on?)"
            return
        stamp = min(message.stamp, now)
        if stamp <= 0 or (before is not None and stamp <= before.stamp):
            return
        positions = self.measured(ordered)
        speeds = ordered.velocities[:6] if len(ordered.velocities) >= 6 else (0.0,) * 6
        refused = () if self._power_refused is None else (self._power_refused,)
        self._feedback = ArmFeedback(
            stamp=stamp,
            positions=positions,
            velocities=np.array([*speeds, self._gripper_speed.update(stamp, float(positions[6]))]),
            enabled=self._powered(stamp),
            faults=(*refused, *self._link.complaints()),
        )
        self._heard_first.set()

    def _powered(self, now: float) -> bool:
        asked = self._power_asked
        if asked is None:
            return False
        return self._power_granted if self.TOPICS.power_answers else now - asked >= _POWER_WITHIN

    def _answered(self, asked: float | None, granted: bool, message: str) -> None:
        """The answer to what was asked then; what was asked since then makes it void."""
        if asked != self._power_asked:
            return
        if granted:
            self._power_granted = asked is not None
        else:
            self._power_asked = None
            self._power_refused = f"{self.DRIVER} refused: {message}"


def _in_order(message: JointMessage) -> JointMessage | None:
    """The message with every joint in the order of `JOINT_NAMES`; None where one is missing or not finite.

    Velocities may be missing at the end: no driver has one for the gripper.
    """
    if len(message.positions) < len(message.names) or any(name not in message.names for name in JOINT_NAMES):
        return None
    index = [message.names.index(name) for name in JOINT_NAMES]
    positions = tuple(message.positions[i] for i in index)
    if not np.all(np.isfinite(positions)):
        return None
    known = all(i < len(message.velocities) for i in index[:6])
    velocities = tuple(message.velocities[i] for i in index[:6]) if known else ()
    return message._replace(names=JOINT_NAMES, positions=positions, velocities=velocities, efforts=())
