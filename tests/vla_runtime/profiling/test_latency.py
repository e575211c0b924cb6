"""Nearest-rank percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.profiling.latency import Latency, latency


def test_a_hundred_values_are_their_own_percentiles() -> None:
    assert latency(range(100, 0, -1)) == Latency(n=100, p50=50, p90=90, p99=99, max=100)


def test_few_values() -> None:
    assert latency([7.0]) == Latency(n=1, p50=7, p90=7, p99=7, max=7)
    assert latency([1.0, 2.0]) == Latency(n=2, p50=1, p90=2, p99=2, max=2)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_equals_numpys_inverted_cdf(values: list[float]) -> None:
    summary = latency(values)
    expected = np.percentile(values, [50, 90, 99, 100], method="inverted_cdf")
    np.testing.assert_array_equal([summary.p50, summary.p90, summary.p99, summary.max], expected)


def test_milliseconds() -> None:
    assert latency([0.002]).milliseconds() == {"n": 1, "p50_ms": 2, "p90_ms": 2, "p99_ms": 2, "max_ms": 2}


def test_nothing_to_summarise() -> None:
    with pytest.raises(ValueError, match="no durations"):
        latency([])
