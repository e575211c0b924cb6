"""What the nodes said and measured, kept while they run."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.chunks.chunk import ActionChunk

_QUEUE = 200


@dataclass(frozen=True)
class Diagnosis:
    """One node's newest diagnostics: its one line and the figures behind it, as published."""

    level: int
    message: str
    values: dict[str, str]


class Recording:
    """Listens from its creation on; everything is in the order of arrival.

    commands, measured: (time in [s], six joints in [rad] and the gripper in [m], shape (7,)).
    chunks: (time of arrival in [s], the chunk).
    states: (time of arrival in [s], "STATE: reason") of the arm.
    diagnoses: the newest of every node, by its name without namespace.
    """

    def __init__(self, node: Node, namespace: str = "") -> None:
        self.commands: list[tuple[float, NDArray[np.float64]]] = []
        self.measured: list[tuple[float, NDArray[np.float64]]] = []
        self.chunks: list[tuple[float, ActionChunk]] = []
        self.states: list[tuple[float, str]] = []
        self.diagnoses: dict[str, Diagnosis] = {}
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(JointState, f"{namespace}/arm_node/command", self._on_command, _QUEUE)
        node.create_subscription(JointState, f"{namespace}/joint_states", self._on_measured, _QUEUE)
        node.create_subscription(JointTrajectory, f"{namespace}/policy_node/action_chunk", self._on_chunk, _QUEUE)
        node.create_subscription(String, f"{namespace}/arm_node/state", self._on_state, latched)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, _QUEUE)

    @property
    def state(self) -> str:
        """The arm's newest "STATE: reason"; empty before the first."""
        return self.states[-1][1] if self.states else ""

    def figure(self, node: str, name: str) -> float:
        """A figure of a node's newest diagnostics; NaN where there is none yet."""
        return float(self.diagnoses[node].values.get(name, "nan")) if node in self.diagnoses else float("nan")

    def _on_command(self, message: JointState) -> None:
        self.commands.append(_joints(message))

    def _on_measured(self, message: JointState) -> None:
        self.measured.append(_joints(message))

    def _on_chunk(self, message: JointTrajectory) -> None:
        order = [message.joint_names.index(name) for name in JOINT_NAMES]
        positions = np.array([point.positions for point in message.points])[:, order]
        times = [point.time_from_start.sec + point.time_from_start.nanosec / 1e9 for point in message.points]
        self.chunks.append((time.time(), ActionChunk(_seconds(message), np.array(times), positions)))

    def _on_state(self, message: String) -> None:
        self.states.append((time.time(), message.data))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {entry.key: entry.value for entry in status.values}
            self.diagnoses[status.name.rsplit("/", 1)[-1]] = Diagnosis(status.level[0], status.message, values)


def _seconds(message: JointState | JointTrajectory) -> float:
    return float(message.header.stamp.sec + message.header.stamp.nanosec / 1e9)


def _joints(message: JointState) -> tuple[float, NDArray[np.float64]]:
    order = [message.name.index(name) for name in JOINT_NAMES]
    return _seconds(message), np.asarray(message.position, dtype=np.float64)[order]
