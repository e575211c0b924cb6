"""What a new chunk is pulled to, how much, and when: against LeRobot and by its properties."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.errors import BadInput
from vla_runtime.policy.rtc import PreviousChunk, Rtc, Schedule, prefix_weights, still_to_come, strength, target

GOLDEN = Path(__file__).parent / "data" / "rtc_lerobot_0.6.1.npz"
SCHEDULES: tuple[Schedule, ...] = ("linear", "exponential")


def test_weights_equal_lerobots() -> None:
    with np.load(GOLDEN) as golden:
        names = [name for name in golden if name.startswith("weights_")]
        assert len(names) == 12
        for name in names:
            _, schedule, frozen, known = name.split("_")
            found = prefix_weights(12, int(frozen), int(known), schedule)  # type: ignore[arg-type]  # one of SCHEDULES
            np.testing.assert_allclose(found, golden[name], atol=1e-7, err_msg=name)


def test_weights_are_the_papers() -> None:
    """H = 8, s = 2, d = 2: c_i = (6 − i) / 5 between the frozen actions and H − s."""
    linear = np.array([1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5, 0, 0])
    np.testing.assert_allclose(prefix_weights(8, 2, 6, "linear"), linear, rtol=1e-6)
    exponential = linear * (np.exp(linear) - 1) / (math.e - 1)
    np.testing.assert_allclose(prefix_weights(8, 2, 6, "exponential"), exponential, rtol=1e-6)


@given(st.integers(1, 60), st.integers(0, 80), st.integers(1, 80), st.sampled_from(SCHEDULES))
def test_weights_fall_from_one_to_zero(horizon: int, frozen: int, known: int, schedule: Schedule) -> None:
    weights = prefix_weights(horizon, frozen, known, schedule)
    end = min(known, horizon)
    assert weights.shape == (horizon,)
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights[: min(frozen, end)], 1)
    np.testing.assert_array_equal(weights[end:], 0)
    assert (np.diff(weights) <= 0).all()
    between = weights[min(frozen, end) : end]
    assert ((between > 0) & (between < 1)).all()
    assert (weights <= prefix_weights(horizon, frozen, known, "linear")).all()


@given(st.floats(0, 1), st.floats(2.1, 100))
def test_strength_is_the_papers_in_its_own_time(time: float, beta: float) -> None:
    tau = 1 - time
    found = strength(time, beta)
    assert 2 <= found <= beta
    if 1e-6 < tau < 1 - 1e-6:
        r_squared = (1 - tau) ** 2 / ((1 - tau) ** 2 + tau**2)
        assert found == pytest.approx(min(beta, (1 - tau) / (tau * r_squared)), rel=1e-6)
    assert strength(1 - time, beta) == pytest.approx(found, rel=1e-6)


def test_at_both_ends_of_the_flow_only_beta_bounds_the_pull() -> None:
    assert strength(1.0, 5.0) == strength(0.0, 5.0) == 5.0
    assert strength(0.5, 5.0) == 2.0
    assert strength(0.5, 1.0) == 1.0


def test_a_short_former_chunk_is_padded_and_its_padding_is_ignored() -> None:
    former = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    found = target(former, 1, 5, "linear")
    np.testing.assert_array_equal(found.chunk[0], [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]])
    np.testing.assert_allclose(found.weights[0, :, 0], [1, 2 / 3, 1 / 3, 0, 0], rtol=1e-6)
    assert found.frozen == 1


def test_no_more_is_frozen_than_there_is() -> None:
    former = np.ones((3, 2), np.float32)
    assert target(former, 9, 5, "linear").frozen == 3
    long = target(np.ones((9, 2), np.float32), 9, 5, "linear")
    assert long.frozen == 5
    np.testing.assert_array_equal(long.weights, 1)


@pytest.mark.parametrize("elapsed", [0.0, 0.3, 0.30000000000000004])
def test_whole_periods_drop_whole_actions(elapsed: float) -> None:
    former = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(still_to_come(former, 0.1, elapsed), former[round(elapsed / 0.1) :])


def test_between_two_actions_lies_what_is_between_them() -> None:
    former = np.array([[0.0, 10.0], [1.0, 8.0], [2.0, 6.0]])
    np.testing.assert_allclose(still_to_come(former, 0.1, 0.125), [[1.25, 7.5]])
    np.testing.assert_allclose(still_to_come(former, 0.1, 0.05), [[0.5, 9.0], [1.5, 7.0]])


def test_nothing_is_invented_after_the_last_action_or_before_the_first() -> None:
    former = np.ones((3, 2))
    assert still_to_come(former, 0.1, 0.2).shape == (1, 2)
    assert still_to_come(former, 0.1, 0.21).shape == (0, 2)
    with pytest.raises(BadInput, match="wrong order"):
        still_to_come(former, 0.1, -0.05)


@given(st.integers(2, 30), st.integers(0, 40), st.one_of(st.just(0.0), st.floats(0.01, 0.99)))
def test_a_straight_chunk_stays_straight(length: int, whole: int, part: float) -> None:
    line = np.arange(length)[:, None] * np.array([[0.3, -2.0]])
    found = still_to_come(line, 0.1, (whole + part) * 0.1)
    expected = (whole + part + np.arange(len(found)))[:, None] * np.array([[0.3, -2.0]])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert len(found) == max(0, length - whole - (part > 0))


def test_the_resolution_of_a_clock_costs_no_action() -> None:
    """Seconds since 1970 are 2.4e-7 apart as float64."""
    former = np.arange(10.0).reshape(5, 2)
    stamp = 1_763_831_012.3
    np.testing.assert_array_equal(still_to_come(former, 0.02, (stamp + 0.02) - stamp), former[1:])
    np.testing.assert_array_equal(still_to_come(former, 0.02, stamp - (stamp + 2e-7)), former)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"form": "soft"}, "form 'soft' is none of hard, identity, guided"),
        ({"form": "hard", "schedule": "cosine"}, "schedule 'cosine' is none of linear, exponential"),
        ({"form": "hard", "beta": 0.0}, "beta is 0"),
        ({"form": "hard", "beta": math.inf}, "beta is inf"),
        ({"form": "hard", "beta": math.nan}, "beta is nan"),
    ],
)
def test_what_there_is_not_is_refused_by_name(options: Any, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        Rtc(**options)


@pytest.mark.parametrize(
    ("actions", "frozen", "complaint"),
    [
        (np.ones(3), 0, r"shape \(n, n_action\)"),
        (np.ones((0, 7)), 0, r"shape \(n, n_action\)"),
        (np.full((2, 7), np.nan), 0, "not finite"),
        (np.ones((2, 7)), -1, "-1 actions cannot be frozen"),
    ],
)
def test_a_former_chunk_that_is_none_is_refused(actions: Any, frozen: int, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        PreviousChunk(actions, frozen)
