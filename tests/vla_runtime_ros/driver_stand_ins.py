"""Nodes that play the manufacturer's drivers: their topics, rates, units and traps, and a check of every message.

Each stand-in moves a body the way its driver moves the arm, and keeps the first thing that was wrong with a message;
`sound` raises it. What they do was read from the drivers' published nodes; no line of those is here.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from vla_runtime.arms.audit import Audit
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime_ros import converters

NAMES = ["joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"]
RATE = 200.0  # [Hz], of the feedback
HOME = (0.1, 0.5, -0.7, 0.2, 0.3, -0.4, 0.02)
STEP = np.array([math.pi / 180_000] * 6 + [1e-6])
MAX_SPEED = 3.0  # [rad/s] and, for the stand-in alone, [m/s]


class BadMessageError(AssertionError):
    """A message no driver should ever get."""


class StandIn(Node):
    """What both drivers have in common: a body, 200 feedback messages a second, and one thread.

    allowed_rate: the most commands per second, in [Hz]; counted over a second.
    velocity: the fastest each coordinate may be asked to move, in [rad/s] and [m/s]. Shape (7,).
    mute: nothing is published; frozen: the stamp stands still, as where the CAN bus died and the driver did not.
    """

    def __init__(
        self, name: str, *, allowed_rate: float, velocity: NDArray[np.float64], period: float, namespace: str = ""
    ) -> None:
        super().__init__(name, namespace=namespace)
        self.plant = KinematicPlant(HOME, MAX_SPEED)
        self.audit = Audit(period)
        self.mute = self.frozen = False
        self.commands: list[JointState] = []
        self.steps: list[list[int]] = []
        self.enabled = False
        self._targets = np.array(HOME)
        self._velocity = velocity
        self._allowed_rate = allowed_rate
        self._arrivals: deque[float] = deque()
        self._stamp = 0.0
        self._moved = time.monotonic()
        self._first_wrong: str | None = None
        self.create_timer(1 / RATE, self._tick)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name)

    def start(self) -> None:
        """Live in a thread until `end`."""
        self._thread.start()

    def end(self) -> None:
        """Die."""
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        self.destroy_node()

    def sound(self) -> None:
        """Raises `BadMessageError` for the first message that was not as it should be."""
        if self._first_wrong is not None:
            raise BadMessageError(self._first_wrong)
        if (self.audit.fastest > self._velocity * 1.5 + STEP / 0.001).any():  # a late period may move half as far again
            raise BadMessageError(f"targets at {self.audit.fastest} rad/s, m/s")
        if self.audit.outside_limits:
            raise BadMessageError(f"{self.audit.outside_limits} targets outside the limits")

    def publish_feedback(self, stamp: float) -> None:
        """One round of the driver's publishers."""
        raise NotImplementedError

    def check(self, fine: bool, wrong: str) -> None:
        """Keep ``wrong`` where this is not ``fine`` and nothing was wrong before."""
        if not fine and self._first_wrong is None:
            self._first_wrong = f"message {len(self.commands)}: {wrong}"

    def check_command(self, message: JointState) -> None:
        """What holds for the commands of either driver."""
        now = time.monotonic()
        self._arrivals.append(now)
        while now - self._arrivals[0] > 1.0:
            self._arrivals.popleft()
        self.check(len(self._arrivals) <= self._allowed_rate * 1.1 + 5, f"{len(self._arrivals)} in one second")
        self.check(list(message.name) == NAMES, f"names {list(message.name)}")
        self.check(len(message.position) == 7, f"{len(message.position)} positions")
        values = [*message.position, *message.velocity, *message.effort]
        self.check(all(math.isfinite(value) for value in values), "not finite")
        stamp = converters.seconds(message.header.stamp)
        self.check(abs(time.time() - stamp) < 1.0, f"stamped {time.time() - stamp:.1f} s ago")
        if self.commands:
            self.check(stamp > converters.seconds(self.commands[-1].header.stamp), "out of order")
        self.commands.append(message)

    def aim(self, steps: list[int], sent: Time) -> None:
        """What the driver makes of the command on the CAN bus, in whole steps; a burst is not a fast motion."""
        self.steps.append(steps)
        if not self.enabled:
            return
        seconds = converters.seconds(sent)
        for first in (0, 2, 4):
            self.audit.target(first, tuple(steps[first : first + 2]), seconds)
        self.audit.target(6, (steps[6],), seconds)
        self._targets = np.array(steps) * STEP

    def power(self, on: bool) -> None:
        """Motors on, holding where they are, or off."""
        if on and not self.enabled:
            self._targets = self.plant.positions
            for index, position in enumerate(self._targets):
                self.audit.rest(index, float(position))
        self.enabled = on

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _tick(self) -> None:
        now = time.monotonic()
        if self.enabled:
            self.plant.apply(self._targets, now - self._moved)
        self._moved = now
        if not self.frozen:
            self._stamp = time.time()
        if not self.mute:
            self.publish_feedback(self._stamp)


class PiperRosStandIn(StandIn):
    """piper_ros: π is 3.14, what is not named is 0, velocity[6] is the speed, and powering closes the gripper."""

    def __init__(self, *, command_topic: str = "joint_ctrl_single", **options: object) -> None:
        super().__init__("piper_ctrl_single_node", **options)  # type: ignore[arg-type]
        self.declare_parameter("gripper_exist", True)
        self.declare_parameter("gripper_val_mutiple", 1)
        self.speeds: list[int] = []
        self.lowest_opening = math.inf
        self._single = self.create_publisher(JointState, "joint_states_single", 1)
        self._feedback = self.create_publisher(JointState, "joint_states_feedback", 1)
        self.create_subscription(JointState, command_topic, self._on_command, 1)
        self.create_subscription(Bool, "enable_flag", self._on_flag, 1)

    def publish_feedback(self, stamp: float) -> None:
        steps = np.rint(self.plant.positions / STEP)
        self.lowest_opening = min(self.lowest_opening, float(self.plant.positions[6]))
        message = JointState(name=NAMES)
        message.header.stamp = converters.stamp(stamp)
        message.position = [*(steps[:6] / 1000 * 0.017444).tolist(), steps[6] / 1_000_000]
        message.velocity = self.plant.velocities[:6].tolist()  # six, though seven are named
        message.effort = [0.0] * 7
        self._feedback.publish(message)
        self._single.publish(message)

    def _on_flag(self, message: Bool) -> None:
        self.power(message.data)
        if message.data:
            self._targets[6] = 0.0

    def _on_command(self, message: JointState) -> None:
        self.check_command(message)
        self.check(len(message.velocity) == 7, f"{len(message.velocity)} velocities")
        self.check(not any(message.velocity[:6]), "speeds of joints, which it takes for nothing")
        speed = round(message.velocity[6])
        self.check(1 <= speed <= 100 and speed == message.velocity[6], f"speed {message.velocity[6]} %")
        self.speeds.append(speed)
        self.check(len(message.effort) == 7 and 0.5 <= message.effort[6] <= 3, f"effort {list(message.effort)}")
        by_name = dict(zip(message.name, message.position, strict=False))
        opening = round(message.position[6] * 1_000_000) if len(message.position) >= 7 else 0
        self.aim(
            [*(round(by_name.get(name, 0.0) * 57324.840764) for name in NAMES[:6]), abs(opening)], message.header.stamp
        )


class AgxArmStandIn(StandIn):
    """agx_arm_ros: what is not named, or is NaN, is 0; a bad gripper force is dropped; power is a slow service."""

    def __init__(self, **options: object) -> None:
        super().__init__("agx_arm_ctrl_single_node", **options)  # type: ignore[arg-type]
        self.declare_parameter("fast_mode", False)
        self.declare_parameter("control_enabled", True)
        self.declare_parameter("effector_type", "agx_gripper")
        self.refusal: str | None = None
        self.calls: list[bool] = []
        self._feedback = self.create_publisher(JointState, "feedback/joint_states", 1)
        self.create_subscription(JointState, "control/joint_states", self._on_command, 1)
        self.create_service(SetBool, "enable_agx_arm", self._on_power)

    def publish_feedback(self, stamp: float) -> None:
        steps = np.rint(self.plant.positions / STEP)
        message = JointState(name=NAMES, position=(steps * STEP).tolist())
        message.header.stamp = converters.stamp(stamp)
        message.velocity = [*self.plant.velocities[:6].tolist(), 0.0]
        message.effort = [0.0] * 6 + [1.0]
        self._feedback.publish(message)

    def _on_power(self, request: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        self.calls.append(request.data)
        time.sleep(0.2)
        answer.success = self.refusal is None
        answer.message = self.refusal or "Agx_arm enabled"
        if answer.success:
            self.power(request.data)
        return answer

    def _on_command(self, message: JointState) -> None:
        self.check_command(message)
        self.check(len(message.velocity) == 0, "velocities, with which its fast mode would choose MIT mode")
        self.check(len(message.effort) == 7 and 0.5 <= message.effort[6] <= 3, f"force {list(message.effort)}")
        self.check(not any(message.effort[:6]), "efforts of joints, which its fast mode would take for torques")
        given = zip(message.name, message.position, strict=False)
        by_name = {name: 0.0 if math.isnan(position) else position for name, position in given}
        joints = [round(math.degrees(by_name.get(name, 0.0)) * 1000) for name in NAMES[:6]]
        opening = abs(by_name.get("gripper", 0.0))
        self.check(opening <= 0.1, f"opening {opening} m")
        self.aim([*joints, round(opening * 1_000_000)], message.header.stamp)


def eventually(condition: Callable[[], object], patience: float = 10.0) -> None:
    """Wait until it is true; fails after ``patience`` [s], which only a defect uses up."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
