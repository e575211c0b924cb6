"""A rosbag as a recording: what the policy node would have observed, had it run while the bag was recorded.

Topics are those of the node's parameters: its defaults, or what a parameter file of the node says that lies in the
bag's directory. A camera without an entry in ``camera_topics`` is looked for on CAMERA/image_raw/compressed, then on
CAMERA/image_raw; names without a leading slash are found in any namespace.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_calibration.node_parameters import node_parameters
from vla_calibration.recording import Episode, Moment, PolicyInputs
from vla_runtime.errors import BadInput
from vla_runtime.policy.joint_space import joint_names
from vla_runtime.policy.observation import Observation

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

    from vla_runtime_ros.observation_buffer import Snapshot

METADATA: Final = "metadata.yaml"

_COMPRESSED, _RAW, _JOINTS = (f"sensor_msgs/msg/{name}" for name in ("CompressedImage", "Image", "JointState"))


class BagRecording:
    """A bag of ROS 2, in MCAP or SQLite3. Its joints are in SI units; what the robot was asked to do is not in it."""

    def __init__(self, root: Path, inputs: PolicyInputs) -> None:
        """Raises `BadInput` where ``root`` cannot be read, or holds no observation such as the policy needs."""
        joints = joint_names("state", inputs.state)
        parameters = node_parameters(root, skip=METADATA)
        from vla_runtime_ros import bag

        self._root = root
        with bag.opened(root) as reader:
            types = bag.topics(reader)
            topic = parameters["joint_states_topic"]
            self._joints = _find(root, types, [topic], [_JOINTS], "no joints", f"joint_states_topic: {topic}")
            self._cameras = _camera_topics(root, types, tuple(inputs.cameras), parameters["camera_topics"])
            self._snapshots = self._observe(reader, joints, parameters)
        self.name = f"bag {root.resolve().name}"
        self.episodes = (Episode(0, None, range(len(self._snapshots))),)

    def read(self, moments: Sequence[Moment]) -> Iterator[tuple[Moment, Observation]]:
        """See `Recording`."""
        cameras = {topic: camera for camera, topic in self._cameras.items()}
        due = {
            (self._cameras[camera], time): moment
            for moment in moments
            for camera, time in self._snapshots[moment.frame].images.items()
        }
        images: defaultdict[Moment, dict[str, NDArray[np.uint8]]] = defaultdict(dict)
        from vla_runtime_ros import bag

        with bag.opened(self._root) as reader:
            for topic, time, message in _messages(reader, cameras):
                moment = due.pop((topic, time), None)
                if moment is None:
                    continue
                images[moment][cameras[topic]] = self._decoded(topic, message())
                if len(images[moment]) == len(cameras):
                    yield moment, Observation(images.pop(moment), self._snapshots[moment.frame].state)
        if due:
            raise BadInput(f"{self._root} changed while it was read: {len(due)} images are gone")

    def _observe(self, reader: Reader, joints: Sequence[str], parameters: Mapping[str, Any]) -> list[Snapshot[int]]:
        """What an infinitely fast policy node would have answered; an image is the time at which it was received."""
        from vla_runtime_ros import converters, policy_parameters
        from vla_runtime_ros.observation_buffer import NotReadyError, ObservationBuffer

        cameras = {topic: camera for camera, topic in self._cameras.items()}
        matching = policy_parameters.matching(parameters.__getitem__, tuple(self._cameras))
        buffer: ObservationBuffer[int] = ObservationBuffer(tuple(self._cameras), matching)
        snapshots, reason, unreadable = [], "it holds no messages of them", ""
        for topic, time, read in _messages(reader, [self._joints, *cameras]):
            message, now = read(), time * 1e-9
            stamp = converters.seconds(message.header.stamp)
            if topic in cameras:
                buffer.put_image(cameras[topic], stamp, time, now)
            else:
                try:
                    buffer.put_state(stamp, converters.positions_by_name(message, joints), now)
                except BadInput as error:  # another device may publish its own joints on the same topic
                    unreadable = f"; {topic}: {error}"
            if buffer.wait_fresh(0.0):
                try:
                    snapshots.append(buffer.snapshot(now))
                except NotReadyError as error:
                    reason = str(error)
        if not snapshots:
            raise BadInput(
                f"{self._root}: no observation of {', '.join(self._cameras)} and the joints: {reason}{unreadable}"
            )
        return snapshots

    def _decoded(self, topic: str, message: Any) -> NDArray[np.uint8]:
        from vla_runtime_ros import converters

        try:
            if message.__msgtype__ == _RAW:
                return converters.rgb_from_raw(message)
            return converters.rgb_from_compressed(message)
        except BadInput as error:
            raise BadInput(f"{self._root}: topic {topic}: {error}") from error


def _camera_topics(
    root: Path, types: Mapping[str, str], cameras: Sequence[str], entries: Sequence[str]
) -> dict[str, str]:
    from vla_runtime_ros import params

    given = params.pairs("camera_topics", entries)
    found: dict[str, str] = {}
    for camera in cameras:
        names = [given[camera]] if camera in given else [f"{camera}/image_raw/compressed", f"{camera}/image_raw"]
        advice = f'camera_topics: ["{camera}=/TOPIC"]'
        found[camera] = _find(root, types, names, [_COMPRESSED, _RAW], f"no camera {camera}", advice)
        if found[camera] in [found[other] for other in found if other != camera]:
            raise BadInput(f"{root}: two cameras are on topic {found[camera]}: name each its own")
    return found


def _find(
    root: Path, types: Mapping[str, str], names: Sequence[str], kinds: Sequence[str], without: str, advice: str
) -> str:
    """The topic of the first of ``names`` that was recorded, which must carry one of ``kinds``."""
    for name in names:
        exact = name if name.startswith("/") else f"/{name}"
        found = [exact] if exact in types else [] if name == exact else [t for t in types if t.endswith(exact)]
        if len(found) > 1:
            raise BadInput(f"{root}: {name} is {' or '.join(sorted(found))}; {_say(advice)}")
        if found and types[found[0]] not in kinds:
            raise BadInput(f"{root}: topic {found[0]} carries {types[found[0]]}, expected {' or '.join(kinds)}")
        if found:
            return found[0]
    raise BadInput(
        f"{root} has {without}: expected topic {' or '.join(names)}, it holds {', '.join(sorted(types)) or 'none'}; "
        f"{_say(advice)}"
    )


def _say(advice: str) -> str:
    return f"say which it is in a parameter file of policy_node in the bag's directory, as {advice}"


def _messages(reader: Reader, topics: Iterable[str]) -> Iterator[tuple[str, int, Any]]:
    """Topic, time of receipt [ns] and a function that deserialises, for each message on ``topics``, in time."""
    from rosbags.typesys import Stores, get_typestore

    from vla_runtime_ros import bag

    store = get_typestore(Stores.ROS2_KILTED)
    for topic, time, kind, data in bag.recorded(reader, topics):
        yield topic, time, lambda data=data, kind=kind: store.deserialize_cdr(data, kind)
