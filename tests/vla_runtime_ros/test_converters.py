import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput
from vla_runtime_ros import converters

RNG = np.random.default_rng(0)


@given(st.floats(0.0, 4e9))
def test_a_time_survives_to_the_resolution_of_a_float(time: float) -> None:
    assert converters.seconds(converters.stamp(time)) == pytest.approx(time, abs=1e-6)


@given(st.integers(0, 10**9))
def test_nanoseconds_never_reach_a_whole_second(count: int) -> None:
    message = converters.duration(count - 1e-10)
    assert 0 <= message.nanosec < 10**9


def test_joints_are_found_by_name_whatever_their_order() -> None:
    order = RNG.permutation(7)
    positions = RNG.normal(size=7)
    message = JointState(
        name=["wheel", *(JOINT_NAMES[i] for i in order)], position=[9.0, *(float(positions[i]) for i in order)]
    )
    np.testing.assert_array_equal(converters.positions_by_name(message, JOINT_NAMES), positions)


def test_a_missing_joint_and_missing_positions_are_named() -> None:
    with pytest.raises(BadInput, match="gripper"):
        converters.positions_by_name(JointState(name=list(JOINT_NAMES[:6]), position=[0.0] * 6), JOINT_NAMES)
    with pytest.raises(BadInput, match="7 names but 6 positions"):
        converters.positions_by_name(JointState(name=list(JOINT_NAMES), position=[0.0] * 6), JOINT_NAMES)


def test_a_joint_state_carries_what_was_measured() -> None:
    positions, velocities = RNG.normal(size=7), RNG.normal(size=7)
    message = converters.joint_state(3.25, JOINT_NAMES, positions, velocities)
    assert converters.seconds(message.header.stamp) == 3.25
    np.testing.assert_array_equal(converters.positions_by_name(message, JOINT_NAMES), positions)
    np.testing.assert_array_equal(message.velocity, velocities)


def test_a_chunk_survives_the_way_over_the_wire() -> None:
    order = list(RNG.permutation(JOINT_NAMES))
    actions = RNG.normal(size=(50, 7))
    message = converters.trajectory(1_700_000_000.123, order, actions, rate=30.0)
    chunk = converters.chunk(message)
    assert chunk.stamp == pytest.approx(1_700_000_000.123, abs=1e-6)
    np.testing.assert_allclose(chunk.times, np.arange(50) / 30.0, atol=1e-9)
    np.testing.assert_array_equal(chunk.positions, actions[:, [order.index(name) for name in JOINT_NAMES]])


def test_a_chunk_that_makes_no_sense_is_refused() -> None:
    actions = np.zeros((3, 7))
    nameless = converters.trajectory(0.0, [f"axis{i}" for i in range(7)], actions, 10.0)
    with pytest.raises(BadInput, match="no joint named joint1"):
        converters.chunk(nameless)
    short = converters.trajectory(0.0, JOINT_NAMES, actions, 10.0)
    short.points[1].positions = [0.0] * 6
    with pytest.raises(BadInput, match="7 positions"):
        converters.chunk(short)
    backwards = converters.trajectory(0.0, JOINT_NAMES, actions, 10.0)
    backwards.points[2].time_from_start = converters.duration(0.05)
    with pytest.raises(BadInput, match="increasing"):
        converters.chunk(backwards)
    with pytest.raises(BadInput, match="needs times"):
        converters.chunk(converters.trajectory(0.0, JOINT_NAMES, np.zeros((0, 7)), 10.0))


def test_colours_stay_where_they_are_through_jpeg() -> None:
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :, 0] = 250  # red
    message = converters.compressed_from_rgb(image, 1.5, "side_optical_frame", 95)
    assert isinstance(message.data, (bytes, bytearray)) or message.data.typecode == "B"
    assert (message.header.frame_id, converters.seconds(message.header.stamp)) == ("side_optical_frame", 1.5)
    decoded = converters.rgb_from_compressed(message)
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).max() <= 6


def test_png_is_exact() -> None:
    image = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    encoded = cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()
    np.testing.assert_array_equal(converters.rgb_from_compressed(CompressedImage(format="png", data=encoded)), image)


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_what_does_not_decode_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="does not decode"):
        converters.rgb_from_compressed(CompressedImage(format="jpeg", data=data))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_raw_images_of_every_encoding_with_padded_rows(encoding: str) -> None:
    rgb = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    alpha = np.full((6, 5, 1), 7, np.uint8)
    stored = {
        "rgb8": rgb,
        "bgr8": rgb[:, :, ::-1],
        "rgba8": np.concatenate([rgb, alpha], axis=2),
        "bgra8": np.concatenate([rgb[:, :, ::-1], alpha], axis=2),
        "mono8": rgb[:, :, :1],
    }[encoding]
    rows = np.pad(stored.reshape(6, -1), ((0, 0), (0, 3)))
    message = Image(height=6, width=5, encoding=encoding, step=rows.shape[1], data=rows.tobytes())
    expected = np.repeat(rgb[:, :, :1], 3, axis=2) if encoding == "mono8" else rgb
    np.testing.assert_array_equal(converters.rgb_from_raw(message), expected)


def test_raw_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadInput, match="16UC1"):
        converters.rgb_from_raw(Image(height=1, width=1, encoding="16UC1", step=2, data=b"\0\0"))
    with pytest.raises(BadInput, match="2×2 rgb8 has 11 bytes"):
        converters.rgb_from_raw(Image(height=2, width=2, encoding="rgb8", step=6, data=bytes(11)))


def test_a_pinhole_projects_its_axis_to_the_centre() -> None:
    info = converters.pinhole(converters.joint_state(1.0, (), np.zeros(0)).header, 224, 320, 300.0)
    assert (np.array(info.k).reshape(3, 3) @ [0, 0, 2.0] / 2.0).tolist() == [159.5, 111.5, 1.0]
    assert np.array(info.p).reshape(3, 4)[:, :3].tolist() == np.array(info.k).reshape(3, 3).tolist()
