import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime_ros.rate import Rate


def test_nothing_or_once_is_no_rate() -> None:
    rate = Rate()
    assert rate.per_second(0.0) == 0.0
    rate.tick(0.0)
    assert rate.per_second(1.0) == 0.0


@given(st.floats(0.1, 500.0), st.integers(2, 200))
def test_a_steady_beat_has_its_rate(hertz: float, count: int) -> None:
    rate = Rate()
    for i in range(count):
        rate.tick(i / hertz)
    assert rate.per_second((count - 1) / hertz) == pytest.approx(hertz, rel=1e-6)


def test_silence_lowers_the_rate_towards_nothing() -> None:
    rate = Rate()
    for i in range(11):
        rate.tick(i * 0.1)
    figures = [rate.per_second(1.0 + silence) for silence in (0.0, 1.0, 10.0, 1000.0)]
    assert figures == sorted(figures, reverse=True)
    assert figures[-1] < 0.02
