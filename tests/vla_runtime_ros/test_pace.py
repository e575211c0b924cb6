import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime_ros.pace import Pace


class Time:
    """A clock that moves when someone sleeps or works."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, duration: float) -> None:
        assert duration >= 0
        self.now += duration


@given(st.lists(st.floats(0.0, 0.035), min_size=1, max_size=60))
def test_every_wake_up_is_on_the_grid_and_none_twice(work: list[float]) -> None:
    time = Time()
    pace = Pace(100.0, time.clock, time.sleep)
    wakes = [pace.wait()]
    for duration in work:
        time.sleep(duration)
        wakes.append(pace.wait())
    beats = [(wake - wakes[0]) * 100 for wake in wakes]
    assert beats == pytest.approx([round(beat) for beat in beats], abs=1e-6)
    assert all(later - earlier > 0.5 for earlier, later in itertools.pairwise(beats))


def test_short_work_never_costs_a_beat() -> None:
    time = Time()
    pace = Pace(50.0, time.clock, time.sleep)
    first = pace.wait()
    for _ in range(1000):
        time.sleep(0.019)
        last = pace.wait()
    assert last - first == pytest.approx(1000 / 50.0)


def test_a_missed_beat_is_skipped_and_not_caught_up() -> None:
    time = Time()
    pace = Pace(100.0, time.clock, time.sleep)
    first = pace.wait()
    time.sleep(0.025)
    assert pace.wait() - first == pytest.approx(0.03)
    assert pace.wait() - first == pytest.approx(0.04)
