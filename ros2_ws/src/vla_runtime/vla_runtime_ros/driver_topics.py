"""The way to a ROS driver of the arm: its topics, its services and its parameters, on a thread of their own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from vla_runtime.arms.driver_link import DriverTopics, JointMessage
from vla_runtime.errors import WorkFailed
from vla_runtime_ros import converters, qos
from vla_runtime_ros.worker import Worker

_LOOK_PERIOD = 0.5  # [s], how often it looks who else is connected
_END_WITHIN = 2.0  # [s]


class RosDriverLink:
    """A `DriverLink` over DDS.

    It has a node and an executor of its own, named after the arm's node with ``_driver`` behind it: feedback must come
    in while the arm's node waits for something. Names are resolved, and remapped, as those of the arm's node are.
    """

    def __init__(self, node: Node, topics: DriverTopics, joint_states_topic: str) -> None:
        """``joint_states_topic``: where the arm's node publishes what was measured; the driver must not obey that."""
        self._owner = node
        self._feedback_topic = node.resolve_topic_name(topics.feedback)
        self._command_topic = node.resolve_topic_name(topics.command)
        self._measured_topic = node.resolve_topic_name(joint_states_topic)
        self._rival_topics = [self._command_topic, *(node.resolve_topic_name(t) for t in topics.other_commands)]
        self._power_answers = topics.power_answers
        resolve = node.resolve_service_name if topics.power_answers else node.resolve_topic_name
        self._power_name = resolve(topics.power)
        self._open = contextlib.ExitStack()
        self._complaints: tuple[str, ...] = ()

    def open(self, heard: Callable[[JointMessage], None]) -> None:
        """Connect; ``heard`` is called from the link's own thread."""
        owner = self._owner
        self._node = rclpy.create_node(
            f"{owner.get_name()}_driver",
            context=owner.context,
            namespace=owner.get_namespace(),
            use_global_arguments=False,  # a launch file's __node would give two nodes one name
            start_parameter_services=False,
            enable_rosout=False,
        )
        self._open.callback(self._node.destroy_node)
        self._commands = self._node.create_publisher(JointState, self._command_topic, qos.DRIVER_COMMAND)
        if self._power_answers:
            self._power_service: Any = self._node.create_client(SetBool, self._power_name)
        else:
            self._power_flags = self._node.create_publisher(Bool, self._power_name, qos.DRIVER_COMMAND)
        self._node.create_subscription(
            JointState, self._feedback_topic, lambda message: heard(_plain(message)), qos.JOINT_STATE
        )
        self._node.create_timer(_LOOK_PERIOD, self._look)
        executor = SingleThreadedExecutor(context=owner.context)
        executor.add_node(self._node)
        self._open.callback(executor.shutdown)

        def spin(stopping: threading.Event) -> None:
            with contextlib.suppress(ExternalShutdownException):
                while not stopping.is_set():
                    executor.spin_once(timeout_sec=0.1)

        worker = Worker("driver link", spin, self._failed)
        self._open.callback(worker.stop, _END_WITHIN)
        self._look()

    def parameters(self, names: Sequence[str], timeout: float) -> Mapping[str, object]:
        """The driver's own parameters, asked of the node that publishes the feedback."""
        publishers = self._node.get_publishers_info_by_topic(self._feedback_topic)
        if len(publishers) != 1:
            raise WorkFailed(
                f"{len(publishers)} nodes publish on {self._feedback_topic}: exactly one driver is expected"
            )
        driver = _full_name(publishers[0])
        client: Any = self._node.create_client(GetParameters, f"{driver}/get_parameters")
        try:
            values = _answer(client, GetParameters.Request(names=list(names)), timeout)
        finally:
            self._node.destroy_client(client)
        if values is None:
            raise WorkFailed(f"{driver} did not tell its parameters within {timeout:g} s")
        found = zip(names, (parameter_value_to_python(value) for value in values.values), strict=False)
        return {name: value for name, value in found if value is not None}

    def command(self, message: JointMessage) -> None:
        """Publish a target."""
        out = JointState(
            name=list(message.names),
            position=list(message.positions),
            velocity=list(message.velocities),
            effort=list(message.efforts),
        )
        out.header.stamp = converters.stamp(message.stamp)
        self._commands.publish(out)

    def power(self, on: bool, answered: Callable[[bool, str], None]) -> None:
        """Publish the flag, or call the service."""
        if not self._power_answers:
            self._power_flags.publish(Bool(data=on))
            return
        if not self._power_service.service_is_ready():
            answered(False, f"its service {self._power_name} is not there")
            return

        def tell(done: Any) -> None:
            answered(done.result().success, done.result().message)

        self._power_service.call_async(SetBool.Request(data=on)).add_done_callback(tell)

    def complaints(self) -> tuple[str, ...]:
        """As of the last look, half a second ago at most."""
        return self._complaints

    def close(self) -> None:
        """Disconnect; `open` works again afterwards."""
        self._open.close()
        self._complaints = ()

    def _look(self) -> None:
        listeners = {_full_name(info) for info in self._node.get_subscriptions_info_by_topic(self._command_topic)}
        drivers = {_full_name(info) for info in self._node.get_publishers_info_by_topic(self._feedback_topic)}
        rivals = {
            (_full_name(info), topic)
            for topic in self._rival_topics
            for info in self._node.get_publishers_info_by_topic(topic)
            if _full_name(info) != self._node.get_fully_qualified_name()
        }
        obeying = {_full_name(info) for info in self._node.get_subscriptions_info_by_topic(self._measured_topic)}
        found = [] if listeners else [f"nobody listens on {self._command_topic}"]
        found += [f"{rival} also commands the arm, on {topic}" for rival, topic in sorted(rivals)]
        found += [
            f"{driver} takes the measured joints on {self._measured_topic} for commands: start it without remapping"
            for driver in sorted(obeying & drivers)
        ]
        self._complaints = tuple(found)

    def _failed(self, error: BaseException) -> None:
        self._complaints = (f"the link to the driver failed: {error!r}",)


def _answer(client: Any, request: Any, timeout: float) -> Any:
    """What the service answers, None where it does not in time. Another thread spins the client's node."""
    if not client.wait_for_service(timeout):
        return None
    done = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: done.set())
    return future.result() if done.wait(timeout) else None


def _plain(message: JointState) -> JointMessage:
    return JointMessage(
        stamp=converters.seconds(message.header.stamp),
        names=tuple(message.name),
        positions=tuple(message.position),
        velocities=tuple(message.velocity),
        efforts=tuple(message.effort),
    )


def _full_name(info: TopicEndpointInfo | Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
