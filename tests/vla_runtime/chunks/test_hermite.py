from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vla_runtime.chunks.hermite import hermite, hermite_rate

durations = st.floats(1e-3, 10.0)


@given(durations)
def test_it_meets_both_ends_and_their_velocities_exactly(duration):
    assert hermite(0.0, duration) == (1.0, 0.0, 0.0, 0.0)
    assert hermite(1.0, duration) == (0.0, 0.0, 1.0, 0.0)
    assert hermite_rate(0.0, duration) == (0.0, 1.0, 0.0, 0.0)
    assert hermite_rate(1.0, duration) == (0.0, 0.0, 0.0, 1.0)


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.floats(0, 1), durations)
def test_it_reproduces_every_cubic(coefficients, fraction, duration):
    cubic = np.polynomial.Polynomial(coefficients)
    speed = cubic.deriv()
    ends = [cubic(0.0), speed(0.0), cubic(duration), speed(duration)]
    now = fraction * duration
    scale = max(1.0, duration) ** 3
    assert_allclose(np.dot(hermite(fraction, duration), ends), cubic(now), rtol=1e-9, atol=1e-9 * scale)
    assert_allclose(np.dot(hermite_rate(fraction, duration), ends), speed(now), rtol=1e-9, atol=1e-9 * scale / duration)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_constant_stays_one(fraction):
    start, _, end, _ = hermite(fraction, 0.5)
    assert_allclose(start + end, 1.0)
