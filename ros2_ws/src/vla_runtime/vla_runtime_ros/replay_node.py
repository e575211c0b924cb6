"""The node that stands in for cameras and joints: a bag, as if it happened now. What answers it moves no arm."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_runtime.errors import BadInput
from vla_runtime_ros import bag, converters, qos, replayed, running
from vla_runtime_ros.bag import Recorded
from vla_runtime_ros.diagnostics import Health, Level
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.params import NO_STRINGS, Parameter
from vla_runtime_ros.rate import Rate
from vla_runtime_ros.replay import Replay, Shift
from vla_runtime_ros.worker import Worker

_KINDS = {
    "sensor_msgs/msg/CompressedImage": (CompressedImage, qos.IMAGE_SOURCE),
    "sensor_msgs/msg/Image": (Image, qos.IMAGE_SOURCE),
    "sensor_msgs/msg/JointState": (JointState, qos.JOINT_STATE_SOURCE),
}
_END_WITHIN = 5.0  # [s]


class ReplayNode(ManagedNode):
    """Publishes the images and joint states of a bag under the names they were recorded with, stamped as of now.

    Every header's frame_id carries a mark (`vla_runtime_ros.replayed`), which the policy node puts on the chunks that
    answer, and without which nothing differs from a running robot. An arm node that is not in a dry run refuses them.
    """

    PARAMETERS = (
        Parameter("bag", "", "Directory of the bag, MCAP or SQLite3."),
        Parameter("rate", 1.0, "Seconds of the bag in one second.", (0.05, 20.0)),
        Parameter("loop", False, "Begin anew at its end."),
        Parameter("topics", NO_STRINGS, "Topics to replay; empty for every image and joint state in the bag."),
    )

    def __init__(self) -> None:
        super().__init__("replay_node")

    def setup(self) -> None:
        """Look what is in the bag; raises `BadInput` where it cannot be read or holds nothing to replay."""
        if not self.value("bag"):
            raise BadInput("parameter bag is empty: give the directory of a bag")
        root = Path(self.value("bag"))
        kinds = _replayable(root, [topic for topic in self.value("topics") if topic])
        self._outlets = {topic: self.publisher(*_outlet(kind, topic)) for topic, kind in kinds.items()}
        self._replay = Replay(root, kinds, self.value("rate"), self.value("loop"), self._deliver, time.time)
        self._rate = Rate()
        self.get_logger().info(f"{root}: {', '.join(kinds)}")

    def start(self) -> None:
        """Play it from its beginning."""
        self._worker = Worker("replay", self._replay.run, lambda error: self.halt(f"the replay failed: {error}"))

    def stop(self) -> None:
        """Stop where it is."""
        self._worker.stop(_END_WITHIN)

    def health(self) -> Health:
        """How far it has come."""
        replay = self._replay
        values: dict[str, float | int | str] = {
            "played_s": replay.played,
            "passes": replay.passes,
            "messages_rate_hz": self._rate.per_second(time.time()),
        }
        if replay.passes and not self.value("loop"):
            return Health(Level.OK, "the bag has ended", values)
        return Health(Level.OK, "replaying", values)

    def _deliver(self, recorded: Recorded, shift: Shift) -> None:
        kind, _ = _KINDS[recorded.kind]
        message: Any = deserialize_message(bytes(recorded.data), kind)
        message.header.stamp = converters.stamp(shift(converters.seconds(message.header.stamp)))
        message.header.frame_id = replayed.mark(message.header.frame_id)
        self._outlets[recorded.topic].publish(message)
        self._rate.tick(time.time())


def _outlet(kind: str, topic: str) -> tuple[Any, str, Any]:
    message, profile = _KINDS[kind]
    return message, topic, profile


def _replayable(root: Path, wanted: list[str]) -> dict[str, str]:
    """Topic → type of what is to be replayed; raises `BadInput` for a topic that is not there or cannot be."""
    with bag.opened(root) as reader:
        found = bag.topics(reader)
    known = {topic: kind for topic, kind in found.items() if kind in _KINDS}
    for topic in wanted:
        if topic not in known:
            raise BadInput(f"{root} has no images or joint states on {topic}; it has {', '.join(known) or 'none'}")
    if not known:
        raise BadInput(f"{root} has no images and no joint states; it has {', '.join(found) or 'nothing'}")
    return {topic: known[topic] for topic in wanted} if wanted else known


def main() -> None:
    """The executable."""
    sys.exit(running.main(ReplayNode))


if __name__ == "__main__":
    main()
