from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime_ros.continuation import Continuation

RATE = 10.0
ORDER = ("gripper", *JOINT_NAMES[:6])  # the policy's order is its own


def chunk(start: float) -> NDArray[np.float64]:
    """16 actions, a tenth of a radian per action; in `ORDER`."""
    return start + 0.1 * np.arange(16)[:, None] + np.zeros((16, 7))


def following(latency: float = 0.15) -> Continuation:
    """It has published a chunk observed at 100 s, in which every joint is at 0 then."""
    continuation = Continuation(RATE, 95.0, 0.15, JOINT_NAMES, ORDER)
    assert continuation.previous(100.0, np.zeros(7)) is None
    assert continuation.answered(100.0, chunk(0.0), chunk(0.0), None, 100.0 + latency) is None
    return continuation


def test_the_next_chunk_continues_what_is_still_to_come_with_the_actions_of_one_latency_frozen() -> None:
    previous = following().previous(100.3, np.full(7, 0.3))
    assert previous is not None
    np.testing.assert_allclose(previous.actions, chunk(0.3)[:13], atol=1e-9)
    assert previous.frozen == 3
    between = following().previous(100.35, np.full(7, 0.3))
    assert between is not None
    np.testing.assert_allclose(between.actions[:, 0], 0.35 + 0.1 * np.arange(12), atol=1e-9)


def test_an_arm_that_does_not_follow_is_not_continued() -> None:
    continuation = following()
    assert continuation.previous(100.3, np.full(7, 0.16)) is not None
    held = np.full(7, 0.3)
    held[2] = 0.1
    assert continuation.previous(100.3, held) is None
    gripping = np.full(7, 0.3)
    gripping[6] = 0.0  # closed on something it never arrives
    assert continuation.previous(100.3, gripping) is not None


def test_what_is_over_or_from_before_is_not_continued() -> None:
    assert following().previous(101.51, np.full(7, 1.5)) is None
    assert following().previous(99.9, np.zeros(7)) is None


def test_another_task_stands_alone_and_the_latency_is_remembered() -> None:
    continuation = following()
    continuation.forget()
    assert continuation.previous(100.3, np.full(7, 0.3)) is None
    assert continuation.frozen == 3


def test_an_answer_that_took_longer_than_what_it_froze_is_rejected_and_the_former_goes_on() -> None:
    continuation = following()
    previous = continuation.previous(100.3, np.full(7, 0.3))
    late = continuation.answered(100.3, chunk(9.0), chunk(9.0), previous, 100.3 + 0.31)
    assert "inference took 310 ms, 4 actions of 100 ms, and the chunk continues only 3" in str(late)
    again = continuation.previous(100.4, np.full(7, 0.4))
    assert again is not None
    np.testing.assert_allclose(again.actions[0], 0.4)
    assert again.frozen == 5
    assert continuation.answered(100.4, chunk(0.4), chunk(0.4), again, 100.4 + 0.31) is None


def test_a_clock_that_jumped_measures_nothing() -> None:
    continuation = following()
    assert "the clock has jumped" in str(continuation.answered(100.3, chunk(0), chunk(0), None, 99.0))
    assert continuation.latency == pytest.approx(0.15)
    assert continuation.previous(100.3, np.full(7, 0.3)) is None
