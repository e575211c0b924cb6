import pytest

from vla_runtime_ros import replayed


@pytest.mark.parametrize("frame", ["", "side_optical_frame", "replay", "replays/x", "a/replay"])
def test_a_mark_is_seen_and_nothing_else_is_one(frame: str) -> None:
    assert replayed.marked(replayed.mark(frame))
    assert replayed.marked(frame) == (frame == "replay")
