import pytest
from sensor_msgs.msg import Image

from vla_runtime.errors import BadInput
from vla_runtime_ros import camera_settings

CAMERAS = ["side", "wrist"]


def test_cameras_are_listened_to_where_the_user_says_else_under_their_name() -> None:
    topics = camera_settings.topics(CAMERAS, ["side=/camera/color/image_raw"], "image_raw/compressed")
    assert topics == {"side": "/camera/color/image_raw", "wrist": "wrist/image_raw/compressed"}


def test_offsets_are_seconds_of_cameras_there_are() -> None:
    assert camera_settings.offsets(CAMERAS, [""]) == {}
    assert camera_settings.offsets(CAMERAS, ["wrist=-0.045"]) == {"wrist": -0.045}
    for entry, line in (
        ("front=0.1", "'front'; this policy knows side, wrist"),
        ("side=early", "'early', expected seconds"),
        ("side=nan", "expected at most 1 s"),
        ("side=-1.5", "expected at most 1 s"),
    ):
        with pytest.raises(BadInput, match=line):
            camera_settings.offsets(CAMERAS, [entry])


def test_a_transport_is_a_message_and_its_topic() -> None:
    raw = camera_settings.transport("raw")
    assert (raw.message, raw.suffix) == (Image, "image_raw")
    with pytest.raises(BadInput, match="compressed or raw"):
        camera_settings.transport("theora")
