from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.executor import ChunkExecutor


def constant(stamp, value, begins=0.0, ends=1.0):
    return ActionChunk(stamp, np.array([begins, ends]), np.full((2, 7), value))


def test_nothing_is_asked_before_the_first_chunk():
    executor = ChunkExecutor()
    assert executor.target(0.0) is None
    assert executor.newest_stamp is None
    assert executor.silence(0.0) == "no chunk has come yet"


def test_a_newer_chunk_replaces_at_once_when_its_actions_are_due():
    executor = ChunkExecutor()
    assert executor.offer(constant(10.0, 1.0), 10.0) is None
    assert_allclose(executor.target(10.1), 1.0)
    assert executor.offer(constant(10.1, 2.0), 10.2) is None
    assert_allclose(executor.target(10.2), 2.0)
    assert executor.newest_stamp == executor.followed_stamp == 10.1


def test_the_former_chunk_is_followed_until_the_newer_begins():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0), 10.0)
    executor.offer(constant(10.1, 2.0, begins=0.2), 10.1)
    assert executor.newest_stamp == 10.1
    assert_allclose(executor.target(10.29), 1.0)
    assert executor.followed_stamp == 10.0
    assert_allclose(executor.target(10.31), 2.0)
    assert executor.followed_stamp == 10.1


@pytest.mark.parametrize("stamp", [9.9, 10.0])
def test_of_two_chunks_out_of_order_the_older_is_refused(stamp):
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0), 10.0)
    assert "no newer than the current one" in executor.offer(constant(stamp, 2.0), 10.1)
    assert_allclose(executor.target(10.1), 1.0)
    assert executor.newest_stamp == 10.0


def test_a_waiting_chunk_counts_as_the_newest():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0), 10.0)
    executor.offer(constant(10.2, 2.0, begins=0.3), 10.2)
    assert "no newer" in executor.offer(constant(10.1, 3.0), 10.2)


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (constant(9.9, np.nan), "not finite"),
        (constant(9.9, -np.inf), "not finite"),
        (constant(np.nan, 1.0), "not finite"),
        (constant(10.051, 1.0), "stamped 0.051 s in the future, limit 0.050 s"),
        (constant(9.4, 1.0), "0.600 s old, limit 0.500 s"),
        (constant(9.9, 1.0, begins=-0.1, ends=0.05), "last action was due 0.050 s ago"),
        (ActionChunk(9.9, np.array([0.2]), np.ones((1, 7))), "at least two"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_reason(chunk, reason):
    executor = ChunkExecutor(max_age=0.5, max_future=0.05)
    executor.offer(constant(9.8, 7.0), 9.8)
    assert reason in executor.offer(chunk, 10.0)
    assert_allclose(executor.target(10.0), 7.0)


def test_silence_says_whether_actions_are_over_or_not_yet_due():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0, begins=0.2, ends=0.4), 10.0)
    assert executor.target(10.1) is None
    assert executor.silence(10.1) == "the first action is due in 0.100 s"
    assert executor.target(10.5) is None
    assert executor.silence(10.5) == "the chunk ended 0.100 s ago"
