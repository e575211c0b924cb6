"""Bags written by the rosbags library, as ros2 bag record writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_calibration.recording import Moment, PolicyInputs
from vla_calibration.rosbag import BagRecording
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput

STORE = get_typestore(Stores.ROS2_KILTED)
START = 1_700_000_000 * 10**9
MS = 10**6
SIDE, WRIST, JOINTS = "/side/image_raw/compressed", "/wrist/image_raw", "/joint_states"


def picture(camera: str, number: int) -> NDArray[np.uint8]:
    """Every pixel tells the image's number, the first column the camera."""
    image = np.full((24, 32, 3), number, np.uint8)
    image[:, 0] = [250, 0, 0] if camera == SIDE else [0, 0, 250]
    return image


def header(stamp: int) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](time, "")


def compressed(stamp: int, image: NDArray[np.uint8]) -> Any:
    png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].reshape(-1)
    return STORE.types["sensor_msgs/msg/CompressedImage"](header(stamp), "png", png)


def raw(stamp: int, image: NDArray[np.uint8], encoding: str = "rgb8") -> Any:
    height, width, _ = image.shape
    return STORE.types["sensor_msgs/msg/Image"](
        header(stamp), height, width, encoding, 0, 3 * width, image.reshape(-1).copy()
    )


def joints(stamp: int, positions: NDArray[np.float64], names: Sequence[str] = JOINT_NAMES) -> Any:
    nothing = np.array([], dtype=np.float64)
    return STORE.types["sensor_msgs/msg/JointState"](header(stamp), list(names), positions, nothing, nothing)


@dataclass
class Robot:
    """A side camera that compresses, a wrist camera that does not, and joints, each at its rate; times in [ms].

    The joints measure the time. Messages arrive ``late`` after they were stamped.
    """

    cameras: dict[str, int] = field(default_factory=lambda: {SIDE: 100, WRIST: 100})
    joints_period: int = 10
    duration: int = 1000
    late: int = 3
    names: Sequence[str] = JOINT_NAMES[::-1]
    joints_topic: str = JOINTS

    def write(self, path: Path, plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
        messages = []
        for topic, period in self.cameras.items():
            make = compressed if topic.endswith("/compressed") else raw
            for number, time in enumerate(range(0, self.duration, period)):
                messages.append((time, topic, make(START + time * MS, picture(topic, number))))
        for time in range(0, self.duration, self.joints_period):
            measured = np.full(len(self.names), time / 1000)
            messages.append((time, self.joints_topic, joints(START + time * MS, measured, self.names)))
        with Writer(path, version=9, storage_plugin=plugin) as writer:
            connections: dict[str, Any] = {}
            for time, topic, message in sorted(messages, key=lambda entry: entry[:2]):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
                data = STORE.serialize_cdr(message, message.__msgtype__)
                writer.write(connections[topic], START + (time + self.late) * MS, data)
        return path


def moments(recording: BagRecording) -> list[Moment]:
    [episode] = recording.episodes
    assert episode.task is None
    return [Moment(episode.number, frame) for frame in episode.frames]


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_what_was_published_is_observed(tmp_path: Path, inputs: PolicyInputs, plugin: StoragePlugin) -> None:
    recording = BagRecording(Robot().write(tmp_path / "bag", plugin), inputs)
    assert recording.name == "bag bag"
    found = dict(recording.read(moments(recording)))
    assert list(found) == moments(recording)
    assert len(found) == 10
    for n, observation in enumerate(found.values()):
        for camera, topic in (("side", SIDE), ("wrist", WRIST)):
            np.testing.assert_array_equal(observation.images[camera], picture(topic, n))
        np.testing.assert_allclose(observation.state, np.full(7, 0.1 * n), atol=0.011)


def test_some_moments_alone_are_decoded(tmp_path: Path, inputs: PolicyInputs) -> None:
    recording = BagRecording(Robot().write(tmp_path / "bag"), inputs)
    found = dict(recording.read([Moment(0, 7), Moment(0, 2)]))
    assert {moment.frame: observation.images["side"][0, 1, 0] for moment, observation in found.items()} == {2: 2, 7: 7}


def test_an_observation_waits_for_its_slowest_camera_and_takes_the_joints_of_its_oldest_image(
    tmp_path: Path, inputs: PolicyInputs
) -> None:
    recording = BagRecording(Robot(cameras={SIDE: 40, WRIST: 150}).write(tmp_path / "bag"), inputs)
    found = [observation for _, observation in recording.read(moments(recording))]
    assert len(found) == 7
    for observation in found:
        stamps = {
            "side": 0.04 * observation.images["side"][0, 1, 0],
            "wrist": 0.15 * observation.images["wrist"][0, 1, 0],
        }
        assert abs(stamps["side"] - stamps["wrist"]) <= 0.05
        np.testing.assert_allclose(observation.state, min(stamps.values()), atol=0.011)


def test_any_namespace_and_more_joints_than_needed(tmp_path: Path, inputs: PolicyInputs) -> None:
    robot = Robot(
        cameras={f"/left{topic}": 100 for topic in (SIDE, WRIST)},
        names=("wheel", *JOINT_NAMES),
        joints_topic=f"/left{JOINTS}",
    )
    assert len(moments(BagRecording(robot.write(tmp_path / "bag"), inputs))) == 10


def test_topics_of_a_parameter_file(tmp_path: Path, inputs: PolicyInputs) -> None:
    colour = "/camera/camera/color/image_raw/compressed"
    robot = Robot(cameras={colour: 100, WRIST: 100}, joints_topic="/measured")
    root = robot.write(tmp_path / "bag")
    with pytest.raises(BadInput, match=r"no joints: expected topic joint_states, it holds .*joint_states_topic: "):
        BagRecording(root, inputs)
    parameters = root / "my_robot.yaml"
    lines = "/**/policy_node:\n  ros__parameters:\n    joint_states_topic: measured\n"
    parameters.write_text(lines)
    with pytest.raises(BadInput, match=r"no camera side: .* or side/image_raw, .*camera_topics: \[\"side=/TOPIC\"\]"):
        BagRecording(root, inputs)
    parameters.write_text(f"{lines}    camera_topics: ['side={colour}']\n")
    assert len(moments(BagRecording(root, inputs))) == 10
    parameters.write_text(f"{lines}    camera_topics: ['side={WRIST}']\n")
    with pytest.raises(BadInput, match=rf"two cameras are on topic {WRIST}"):
        BagRecording(root, inputs)


def test_two_robots_on_one_bag(tmp_path: Path, inputs: PolicyInputs) -> None:
    robot = Robot(cameras={f"/{name}{topic}": 100 for name in ("left", "right") for topic in (SIDE, WRIST)})
    with pytest.raises(BadInput, match=rf"side/image_raw/compressed is /left{SIDE} or /right{SIDE}; say which"):
        BagRecording(robot.write(tmp_path / "bag"), inputs)


def test_a_topic_that_carries_something_else(tmp_path: Path, inputs: PolicyInputs) -> None:
    root = Robot().write(tmp_path / "bag")
    (root / "robot.yaml").write_text(f"policy_node: {{ros__parameters: {{joint_states_topic: {SIDE}}}}}")
    with pytest.raises(BadInput, match=r"/side/image_raw/compressed carries sensor_msgs/msg/CompressedImage, expected"):
        BagRecording(root, inputs)


@pytest.mark.parametrize(
    ("robot", "reason"),
    [
        (Robot(names=JOINT_NAMES[:6]), "no joint state yet; /joint_states: no joint named gripper among joint1"),
        (Robot(late=600), "the image of camera side is 0.6[0-9] s old, more than 0.5 s"),
    ],
)
def test_a_bag_in_which_the_node_would_have_seen_nothing(
    tmp_path: Path, inputs: PolicyInputs, robot: Robot, reason: str
) -> None:
    with pytest.raises(BadInput, match=rf"bag: no observation of side, wrist and the joints: {reason}"):
        BagRecording(robot.write(tmp_path / "bag"), inputs)


def test_joints_that_fell_silent_are_stale(tmp_path: Path, inputs: PolicyInputs) -> None:
    robot = Robot(joints_period=5000, cameras={SIDE: 900, WRIST: 900}, duration=1800)
    assert len(moments(BagRecording(robot.write(tmp_path / "bag"), inputs))) == 1


def test_an_empty_bag(tmp_path: Path, inputs: PolicyInputs) -> None:
    with Writer(tmp_path / "none", version=9):
        pass
    with pytest.raises(BadInput, match=r"none has no joints: expected topic joint_states, it holds none"):
        BagRecording(tmp_path / "none", inputs)
    with Writer(tmp_path / "silent", version=9) as writer:
        for topic, kind in ((SIDE, "CompressedImage"), (WRIST, "Image"), (JOINTS, "JointState")):
            writer.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=STORE)
    with pytest.raises(BadInput, match=r"silent: no observation of side, wrist and the joints: it holds no messages"):
        BagRecording(tmp_path / "silent", inputs)


def truncate(root: Path) -> None:
    for path in (*root.glob("*.mcap"), *root.glob("*.db3")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose(root: Path) -> None:
    for path in (*root.glob("*.mcap"), *root.glob("*.db3")):
        path.unlink()


def not_a_bag(root: Path) -> None:
    (root / "metadata.yaml").write_text("names: [side, wrist]\n")


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("damage", [truncate, lose, not_a_bag])
def test_a_damaged_bag(
    tmp_path: Path, inputs: PolicyInputs, plugin: StoragePlugin, damage: Callable[[Path], None]
) -> None:
    root = Robot().write(tmp_path / "bag", plugin)
    damage(root)
    with pytest.raises(BadInput, match=r"bag cannot be read as a bag \(.*\): copy it again, or try ros2 bag reindex"):
        BagRecording(root, inputs)


def test_an_image_that_cannot_be_decoded_names_its_topic(tmp_path: Path, inputs: PolicyInputs) -> None:
    with Writer(tmp_path / "bag", version=9) as writer:
        for topic, message in (
            (JOINTS, joints(START, np.zeros(7))),
            (SIDE, compressed(START, picture(SIDE, 0))),
            (WRIST, raw(START, picture(WRIST, 0), encoding="16UC3")),
        ):
            connection = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connection, START + MS, STORE.serialize_cdr(message, message.__msgtype__))
    recording = BagRecording(tmp_path / "bag", inputs)
    with pytest.raises(BadInput, match=r"topic /wrist/image_raw: image encoding '16UC3' is not one of"):
        list(recording.read(moments(recording)))


def test_an_end_pose_is_not_in_a_bag(tmp_path: Path, inputs: PolicyInputs) -> None:
    pose = replace(inputs, state=inputs.state.model_copy(update={"quantity": "end_pose"}))
    with pytest.raises(BadInput, match="the policy's state is the pose of the end effector"):
        BagRecording(Robot().write(tmp_path / "bag"), pose)
