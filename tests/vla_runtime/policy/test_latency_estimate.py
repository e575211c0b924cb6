"""How many actions an inference takes: never fewer than it did at the percentile, and late chunks are rejected."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.errors import BadInput
from vla_runtime.policy.latency_estimate import LatencyEstimate

LATENCIES = st.lists(st.floats(0, 2), min_size=1, max_size=50)


def estimate(latencies: list[float], percentile: float = 95, window: int = 100) -> LatencyEstimate:
    found = LatencyEstimate(0.1, percentile, window)
    for latency in latencies:
        found.add(latency)
    return found


def test_nothing_is_known_before_the_first_inference() -> None:
    assert estimate([]).frozen is None
    assert estimate([]).seconds is None


@pytest.mark.parametrize(
    ("latency", "periods"), [(0.0, 0), (0.01, 1), (0.1, 1), (0.1 + 1e-12, 1), (0.101, 2), (3 * 0.1, 3), (0.25, 3)]
)
def test_a_begun_period_is_a_whole_one_and_the_action_at_its_end_is_settled(latency: float, periods: int) -> None:
    assert estimate([latency]).frozen == periods + 1


@given(LATENCIES, st.floats(1, 100))
def test_at_least_the_percentile_of_them_would_have_been_in_time(latencies: list[float], percentile: float) -> None:
    found = estimate(latencies, percentile)
    assert found.frozen is not None
    in_time = sum(found.rejects(latency, found.frozen) is None for latency in latencies)
    assert in_time >= percentile / 100 * len(latencies) - 1e-9
    assert found.seconds in latencies


@given(LATENCIES)
def test_at_one_hundred_it_is_the_longest(latencies: list[float]) -> None:
    found = estimate(latencies, 100)
    assert found.seconds == max(latencies)
    assert found.rejects(max(latencies), found.frozen or 0) is None


def test_the_oldest_are_forgotten() -> None:
    found = estimate([1.0, *[0.05] * 5], 100, window=5)
    assert found.frozen == 2


def test_a_late_chunk_is_rejected_with_its_reason() -> None:
    found = estimate([0.15])
    assert found.rejects(0.2, 3) is None
    reason = found.rejects(0.25, 3)
    assert reason == "inference took 250 ms, 3 actions of 100 ms, and the chunk continues only 3"


@pytest.mark.parametrize("latency", [-0.1, math.inf, math.nan])
def test_a_jump_of_the_clock_is_no_latency(latency: float) -> None:
    with pytest.raises(BadInput, match="the clock has jumped"):
        estimate([0.1, latency])


@pytest.mark.parametrize(
    ("period", "percentile", "window", "complaint"),
    [
        (0, 95, 1, "period"),
        (math.nan, 95, 1, "period"),
        (1, 0, 1, "percentile"),
        (1, 101, 1, "per"),
        (1, 95, 0, "0 la"),
    ],
)
def test_no_estimate_without_sense(period: float, percentile: float, window: int, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        LatencyEstimate(period, percentile, window)
