"""The front of two wishes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from results.front import front

POINTS = st.lists(st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float)), max_size=20)


def test_cheaper_and_no_worse_wins() -> None:
    assert front([(1.0, 0.9), (0.5, 0.9), (0.4, 0.5), (0.6, 0.95), (0.3, 0.5)]) == [4, 1, 3]


def test_equal_points_both_stay() -> None:
    assert front([(1.0, 0.5), (1.0, 0.5)]) == [0, 1]


@given(POINTS)
def test_each_point_is_on_the_front_or_beaten_by_one_that_is(points: list[tuple[float, float]]) -> None:
    best = front(points)
    costs, gains = [points[n][0] for n in best], [points[n][1] for n in best]
    assert costs == sorted(costs)
    assert gains == sorted(gains)
    for n, (cost, gain) in enumerate(points):
        beaten = any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in (points[m] for m in best))
        assert (n in best) != beaten
