from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vla_runtime.chunks.fade import fade


def test_it_is_the_quintic_between_rest_and_rest():
    # The one polynomial of degree 5 with these values, first and second derivatives at 0 and at 1.
    powers = np.arange(6)
    at_one = [np.ones(6), powers, powers * (powers - 1)]
    conditions = np.array([np.eye(6)[0], np.eye(6)[1], 2 * np.eye(6)[2], *at_one])
    quintic = np.polynomial.Polynomial(np.linalg.solve(conditions, [0, 0, 0, 1, 0, 0]))
    for u in np.linspace(0, 1, 21):
        weight, rate = fade(0.4 * u, 0.4)
        assert_allclose(weight, quintic(u), atol=1e-12)
        assert_allclose(rate, quintic.deriv()(u) / 0.4, atol=1e-10)


@given(st.floats(-1e6, 0), st.floats(1e-3, 1))
def test_nothing_before_and_all_after(away, window):
    assert fade(away, window) == (0.0, 0.0)
    assert fade(window - away, window) == (1.0, 0.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_it_only_rises(one, other):
    early, late = sorted((one, other))
    rounding = 1e-14
    assert 0.0 <= fade(early, 1.0)[0] <= fade(late, 1.0)[0] + rounding <= 1.0 + 2 * rounding
