from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vla_runtime_ros.chunk_source import ChunkSource


def test_the_first_is_followed_and_the_second_named_and_refused() -> None:
    source = ChunkSource(1.0)
    assert source.followed is None
    assert source.refusal("/a", 0.0) is None
    refusal = str(source.refusal("/b", 0.1))
    assert "/b is refused while /a publishes" in refusal
    assert source.rivals(0.2) == ("/b",)
    assert source.refusal("/a", 0.9) is None
    assert source.refusal("/b", 1.8) is not None
    assert source.followed == "/a"


def test_a_silent_one_gives_way_and_is_the_rival_when_it_comes_back() -> None:
    source = ChunkSource(1.0)
    source.refusal("/a", 0.0)
    assert source.refusal("/b", 1.01) is None
    assert source.followed == "/b"
    assert "/a is refused" in str(source.refusal("/a", 1.02))
    assert source.rivals(3.0) == ()


def test_a_clock_that_was_set_back_does_not_lock_everybody_out() -> None:
    source = ChunkSource(1.0)
    source.refusal("/a", 1000.0)
    assert source.refusal("/b", 10.0) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 2.0)), max_size=60))
def test_two_are_never_taken_within_one_timeout(arrivals: list[tuple[str, float]]) -> None:
    source = ChunkSource(1.0)
    now, last = 0.0, (-10.0, "")
    for publisher, pause in arrivals:
        now += pause
        if source.refusal(publisher, now) is None:
            if publisher != last[1] and last[1]:
                assert now - last[0] > 1.0
            last = (now, publisher)
        else:
            assert publisher != last[1]
