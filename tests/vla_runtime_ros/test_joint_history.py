from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime_ros.joint_history import JointHistory


def filled(stamps: list[float]) -> JointHistory:
    history = JointHistory(100, 0.5)
    for stamp in stamps:
        history.put(stamp, np.array([stamp, -2 * stamp]))
    return history


@given(st.floats(10.0, 10.9))
def test_between_two_measurements_it_is_on_the_line_between_them(stamp: float) -> None:
    positions, away = filled([10.0, 10.1, 10.4, 10.9]).at(stamp)
    np.testing.assert_allclose(positions, [stamp, -2 * stamp], atol=1e-9)
    assert 0.0 <= away <= 0.25 + 1e-9


def test_outside_of_all_it_is_the_nearest_and_says_how_far() -> None:
    history = filled([10.0, 10.1])
    for stamp, nearest, away in ((9.7, 10.0, 0.3), (10.35, 10.1, 0.25)):
        positions, distance = history.at(stamp)
        assert positions[0] == nearest
        assert distance == pytest.approx(away)


def test_what_was_overtaken_on_its_way_is_dropped() -> None:
    history = filled([10.0, 10.1, 10.05, 10.1, 10.2])
    assert history.newest == 10.2
    np.testing.assert_allclose(history.at(10.15)[0][0], 10.15)


def test_a_clock_that_was_set_back_starts_a_new_history() -> None:
    history = filled([10.0, 10.1, 3.0, 3.1])
    assert history.newest == 3.1
    assert history.at(10.0)[1] == pytest.approx(6.9)


def test_nothing_measured_is_an_error() -> None:
    history = JointHistory(10, 0.5)
    assert history.newest is None
    with pytest.raises(IndexError):
        history.at(0.0)
