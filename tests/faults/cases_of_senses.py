"""What can go wrong between the sensors and the policy."""

from __future__ import annotations

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, JointState
from trajectory_msgs.msg import JointTrajectory

from tests.faults import injections as do
from tests.faults.case import BY_ITSELF, HOLDING, PERIOD, Fault, harmless, variant
from tests.faults.stream import Stream
from tests.faults.world import CAMERA_PERIOD, HEARTBEAT_PERIOD, IMAGE_DELAY, OBSERVATION_TIMEOUT, SETTINGS, World
from vla_runtime_ros import converters


def _joints(world: World) -> Stream[JointState]:
    return world.joints


def _chunks(world: World) -> Stream[JointTrajectory]:
    return world.chunks


def _beats(world: World) -> Stream[DiagnosticArray]:
    return world.heartbeats


def _cut_short(message: CompressedImage) -> CompressedImage:
    return CompressedImage(header=message.header, format=message.format, data=bytes(message.data)[:80])


def _larger(message: CompressedImage) -> CompressedImage:
    picture = converters.rgb_from_compressed(message).repeat(3, axis=0).repeat(2, axis=1)
    return CompressedImage(header=message.header, data=converters.compressed_from_rgb(picture, 0.0, "", 90).data)


def _five_joints(message: JointState) -> JointState:
    return JointState(header=message.header, name=message.name[:5], position=message.position[:5])


def _five_positions(message: JointState) -> JointState:
    return JointState(header=message.header, name=message.name, position=message.position[:5])


def _short_points(message: JointTrajectory) -> JointTrajectory:
    for point in message.points:
        point.positions = point.positions[:5]
    return message


_CAMERA = Fault(
    "",
    "",
    do.nothing,
    HOLDING,
    "",
    SETTINGS.watchdogs["side"] + PERIOD,
    "watchdog of the camera, 0.3 s",
    BY_ITSELF,
)
_UNSEEN = variant(
    _CAMERA,
    "",
    do.nothing,
    reason=r"^newest chunk is 0\.5\d\d s old, limit 0\.500 s",
    within=SETTINGS.chunk_timeout + PERIOD,
    because="`chunk_timeout`, 0.5 s",
)
_JOINTS = variant(
    _UNSEEN,
    "",
    do.nothing,
    group="Joint states",
    within=OBSERVATION_TIMEOUT + SETTINGS.chunk_timeout + PERIOD,
    because="`observation_timeout` and `chunk_timeout`, 0.5 s each",
)
_TOPIC = variant(_UNSEEN, "", do.nothing, group="Chunks and heartbeats")


def _of_camera(camera: str) -> tuple[Fault, ...]:
    def images(world: World) -> Stream[CompressedImage]:
        return world.images[camera]

    lost = variant(_CAMERA, "", do.nothing, reason=rf"^{camera} is 0\.3\d\d s old, limit 0\.300 s")
    stamped = variant(
        _CAMERA,
        "",
        do.nothing,
        within=CAMERA_PERIOD + IMAGE_DELAY + HEARTBEAT_PERIOD + PERIOD,
        because="an image and a heartbeat",
        mend=do.stream(images, altered=None),
    )
    cases = (
        variant(lost, "lost", do.stream(images, lost=True), mend=do.stream(images, lost=False)),
        variant(
            lost,
            "one image sent again and again",
            do.stream(images, frozen=True),
            mend=do.stream(images, frozen=False),
        ),
        variant(lost, "0.6 s late", do.late(images, 0.6), mend=do.late(images, -0.6)),
        harmless("", "0.1 s late", do.late(images, 0.1)),
        harmless("", "images overtake each other", do.stream(images, swapped=True)),
        harmless("", "images of another size: they are fitted", do.stream(images, altered=_larger)),
        variant(
            _UNSEEN, "images cut short", do.stream(images, altered=_cut_short), mend=do.stream(images, altered=None)
        ),
        variant(
            stamped,
            "stamps 1 s ahead",
            do.stream(images, altered=do.restamped(1.0)),
            reason=rf"^{camera} is stamped 0\.9\d\d s in the future",
        ),
        variant(
            stamped,
            "stamps 1 s behind",
            do.stream(images, altered=do.restamped(-1.0)),
            reason=rf"^{camera} is 1\.\d+ s old, limit 0\.300 s",
        ),
    )
    return tuple(replace(case, group=f"Camera {camera}") for case in cases)


CASES = (
    *_of_camera("side"),
    *_of_camera("wrist"),
    variant(_JOINTS, "lost", do.stream(_joints, lost=True), mend=do.stream(_joints, lost=False)),
    variant(_JOINTS, "0.7 s late", do.late(_joints, 0.7), mend=do.late(_joints, -0.7)),
    variant(
        _JOINTS, "one sent again and again", do.stream(_joints, frozen=True), mend=do.stream(_joints, frozen=False)
    ),
    harmless("Joint states", "they overtake each other", do.stream(_joints, swapped=True)),
    variant(
        _JOINTS, "a joint missing", do.stream(_joints, altered=_five_joints), mend=do.stream(_joints, altered=None)
    ),
    variant(
        _JOINTS,
        "fewer positions than names",
        do.stream(_joints, altered=_five_positions),
        mend=do.stream(_joints, altered=None),
    ),
    variant(
        _JOINTS,
        "stamps 1 s ahead",
        do.stream(_joints, altered=do.restamped(1.0)),
        mend=do.stream(_joints, altered=None),
    ),
    variant(_TOPIC, "chunks lost", do.stream(_chunks, lost=True), mend=do.stream(_chunks, lost=False)),
    variant(_TOPIC, "chunks 0.6 s late", do.late(_chunks, 0.6), mend=do.late(_chunks, -0.6)),
    harmless("Chunks and heartbeats", "chunks 0.1 s late", do.late(_chunks, 0.1)),
    variant(
        _TOPIC, "one chunk sent again and again", do.stream(_chunks, frozen=True), mend=do.stream(_chunks, frozen=False)
    ),
    variant(
        _TOPIC,
        "chunks of five joints",
        do.stream(_chunks, altered=_short_points),
        mend=do.stream(_chunks, altered=None),
    ),
    variant(
        _TOPIC,
        "chunks stamped 1 s ahead",
        do.stream(_chunks, altered=do.restamped(1.0)),
        mend=do.stream(_chunks, altered=None),
    ),
    variant(
        _TOPIC,
        "heartbeats lost",
        do.stream(_beats, lost=True),
        reason=r"^policy is 0\.2\d\d s old, limit 0\.200 s",
        within=SETTINGS.watchdogs["policy"] + PERIOD,
        because="watchdog of the policy, 0.2 s",
        mend=do.stream(_beats, lost=False),
    ),
    variant(
        _TOPIC,
        "a chunk that is not finite",
        do.not_finite_chunk,
        reason="^the chunk holds values that are not finite$",
        within=PERIOD,
        because="the next period",
        goes_on="resume",
        mend=do.nothing,
    ),
    variant(
        harmless("Chunks and heartbeats", "a second policy publishes: it is refused", do.second_policy),
        "a second policy publishes: it is refused",
        do.second_policy,
        observe=do.refused_by_source,
        reason="^a second policy publishes: another is refused while policy publishes",
    ),
)
