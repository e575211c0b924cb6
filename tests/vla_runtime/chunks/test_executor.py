from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.chunks.schedule import Schedule
from vla_runtime.chunks.takeover import TAKEOVERS, takeover
from vla_runtime.errors import BadInput

WINDOW = 0.15  # [s], the default

every_takeover = pytest.mark.parametrize("name", TAKEOVERS)


def constant(stamp, value, begins=0.0, ends=1.0):
    return ActionChunk(stamp, np.array([begins, ends]), np.full((2, 7), value))


def test_nothing_is_asked_before_the_first_chunk():
    executor = ChunkExecutor()
    assert executor.target(0.0) is None
    assert executor.newest_stamp is None
    assert executor.followed_stamp is None
    assert executor.silence(0.0) == "no chunk has come yet"


@pytest.mark.parametrize("name", ["replace", "blend", "rtc"])
def test_a_newer_chunk_takes_over_at_once_when_its_actions_are_due(name):
    executor = ChunkExecutor(takeover=takeover(name))
    assert executor.offer(constant(10.0, 1.0), 10.0) is None
    assert_allclose(executor.target(10.1), 1.0)
    assert executor.offer(constant(10.1, 2.0), 10.2) is None
    assert executor.newest_stamp == executor.followed_stamp == 10.1
    assert_allclose(executor.target(10.2), 1.0)
    assert_allclose(executor.target(10.2 + WINDOW / 2), 1.5)
    assert_allclose(executor.target(10.2 + WINDOW), 2.0)


def test_by_default_chunks_are_blended_and_cubic():
    chunks = [
        ActionChunk(10.0 + 0.1 * i, 0.1 * np.arange(4), np.random.default_rng(i).normal(size=(4, 7))) for i in range(2)
    ]
    executors = ChunkExecutor(), ChunkExecutor(takeover=takeover("blend"), interpolation="cubic")
    for executor in executors:
        for chunk in chunks:
            executor.offer(chunk, chunk.stamp)
    for now in (10.12, 10.2, 10.33):
        assert_array_equal(executors[0].target(now), executors[1].target(now))


def test_interpolation_is_as_asked():
    chunk = ActionChunk(10.0, np.array([0.0, 0.1, 0.2]), np.repeat([[0.0], [1.0], [0.0]], 7, axis=1))
    for interpolation in ("linear", "cubic"):
        executor = ChunkExecutor(interpolation=interpolation)
        executor.offer(chunk, 10.0)
        assert_array_equal(executor.target(10.03), Schedule(chunk, interpolation).position(10.03))


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(BadInput, match="interpolation 'quintic' is unknown: choose from linear, cubic"):
        ChunkExecutor(interpolation="quintic")


@every_takeover
def test_the_former_chunk_is_followed_until_the_newer_begins(name):
    executor = ChunkExecutor(takeover=takeover(name))
    executor.offer(constant(10.0, 1.0), 10.0)
    executor.offer(constant(10.1, 2.0, begins=0.2), 10.1)
    assert executor.newest_stamp == 10.1
    assert_allclose(executor.target(10.29), 1.0)
    assert executor.followed_stamp == 10.0
    assert executor.target(10.31)[0] > 1.0
    assert executor.followed_stamp == 10.1


def test_a_takeover_begins_when_it_is_due_and_not_when_it_is_noticed():
    watched, unwatched = ChunkExecutor(), ChunkExecutor()
    for executor in (watched, unwatched):
        executor.offer(constant(10.0, 1.0), 10.0)
        executor.offer(constant(10.1, 2.0, begins=0.2), 10.1)
    for now in (10.3, 10.31, 10.35):
        watched.target(now)
    assert_array_equal(watched.target(10.4), unwatched.target(10.4))


def test_of_chunks_that_lie_ahead_each_is_followed_until_a_newer_begins():
    executor = ChunkExecutor(takeover=takeover("replace", window=0.01))
    executor.offer(constant(10.0, 1.0, ends=0.3), 10.0)
    executor.offer(constant(10.05, 2.0, begins=0.2), 10.05)  # from 10.25
    executor.offer(constant(10.1, 3.0, begins=0.35), 10.1)  # from 10.45
    assert_allclose([executor.target(now)[0] for now in (10.2, 10.3, 10.4, 10.5)], [1.0, 2.0, 2.0, 3.0])


def test_a_chunk_that_lies_ahead_is_dropped_for_a_newer_that_begins_earlier():
    executor = ChunkExecutor(takeover=takeover("replace", window=0.01))
    executor.offer(constant(10.0, 1.0), 10.0)
    executor.offer(constant(10.05, 2.0, begins=0.4), 10.05)
    executor.offer(constant(10.1, 3.0, begins=0.1), 10.1)
    assert_allclose([executor.target(now)[0] for now in (10.15, 10.3, 10.6)], [1.0, 3.0, 3.0])


@every_takeover
def test_after_a_gap_the_next_chunk_starts_from_where_it_says(name):
    executor = ChunkExecutor(takeover=takeover(name))
    executor.offer(constant(10.0, 1.0, ends=0.2), 10.0)
    assert executor.target(10.25) is None
    executor.offer(constant(10.2, 2.0), 10.3)
    assert_allclose(executor.target(10.3), 2.0)


@every_takeover
def test_a_first_chunk_that_lies_ahead_leaves_no_trace_where_a_newer_begins_earlier(name):
    executor = ChunkExecutor(takeover=takeover(name))
    executor.offer(constant(10.0, 1.0, begins=0.3), 10.0)
    executor.offer(constant(10.1, 2.0, begins=0.1), 10.1)
    assert executor.target(10.15) is None
    assert_allclose([executor.target(now)[0] for now in (10.2, 10.5)], 2.0)


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
        (constant(9.9, 1.0, begins=0.2, ends=0.20001), "1e-05 to 1e-05 s apart; they can be followed from 0.0001"),
        (constant(9.9, 1.0, ends=1e9), "to 3600 s apart"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_reason(chunk, reason):
    executor = ChunkExecutor(max_age=0.5, max_future=0.05)
    executor.offer(constant(9.8, 7.0), 9.8)
    assert reason in executor.offer(chunk, 10.0)
    assert_allclose(executor.target(10.0), 7.0)


def test_at_no_time_nothing_is_asked():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0), 10.0)
    assert executor.target(np.nan) is None
    assert executor.offer(constant(10.1, 2.0), np.nan) is not None
    assert_allclose(executor.target(10.2), 1.0)


def test_a_target_is_the_callers_own():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0), 10.0)
    executor.target(10.1)[:] = 9.0
    assert_allclose(executor.target(10.1), 1.0)


def test_silence_says_whether_actions_are_over_or_not_yet_due():
    executor = ChunkExecutor()
    executor.offer(constant(10.0, 1.0, begins=0.2, ends=0.4), 10.0)
    assert executor.target(10.1) is None
    assert executor.silence(10.1) == "the first action is due in 0.100 s"
    assert executor.target(10.5) is None
    assert executor.silence(10.5) == "the chunk ended 0.100 s ago"


@st.composite
def arrivals(draw, latest_first_action=0.4):
    """Chunks of a policy that is now early, now late, and when they come; their times are not evenly spaced."""
    now, stamp, coming = 100.0, 99.9, []
    for _ in range(draw(st.integers(2, 8))):
        horizon = draw(st.integers(2, 8))
        gaps = draw(st.lists(st.floats(0.03, 0.3), min_size=horizon - 1, max_size=horizon - 1))
        times = draw(st.floats(-0.3, latest_first_action)) + np.cumsum([0.0, *gaps])
        bends = draw(st.lists(st.floats(-1, 1), min_size=7 * horizon, max_size=7 * horizon))
        stamp = max(stamp + draw(st.floats(0.01, 0.3)), now - draw(st.floats(0.0, 0.45)))
        now = max(now, stamp - 0.04)
        coming.append((now, ActionChunk(stamp, times, np.reshape(bends, (horizon, 7)))))
        now += draw(st.floats(0.0, 0.4))
    return coming


STEP = 1e-5  # [s], of the numerical derivatives


def instants(coming, window, interpolation):
    """When the velocity could step, but for those so near another turn of it that no derivative can be taken there.

    With linear interpolation it does step at the actions themselves, and that is nobody's fault.
    """
    suspect, stepping = set(), set()
    for now, chunk in coming:
        due = chunk.stamp + chunk.times
        taken = max(now, due[0])
        suspect.update((now, due[0], taken, taken + window, due[-1], due[-1] + window))
        (suspect if interpolation == "cubic" else stepping).update(due[1:])
    turns = np.array([*(suspect - stepping), *stepping])
    return sorted(time for time in suspect - stepping if np.sum(np.abs(turns - time) < 5 * STEP) == 1)


@every_takeover
@given(coming=arrivals(), window=st.floats(0.05, 0.4), interpolation=st.sampled_from(["linear", "cubic"]))
def test_position_and_velocity_are_continuous_from_the_first_target_to_the_end(name, coming, window, interpolation):
    executor = ChunkExecutor(takeover=takeover(name, window=window), interpolation=interpolation)
    waiting = list(coming)

    def target(now):
        """Targets before and after the chunk that comes at ``now``, if one does."""
        while waiting and waiting[0][0] < now:
            executor.offer(waiting[0][1], waiting.pop(0)[0])
        before = executor.target(now)
        while waiting and waiting[0][0] == now:
            executor.offer(waiting.pop(0)[1], now)
        after = executor.target(now)
        assert before is None or after is not None, "a takeover opened a gap"
        return before, after

    for time in instants(coming, window, interpolation):
        around = [target(time + k * STEP) for k in (-2, -1, 0, 1, 2)]
        if any(found is None for pair in around for found in pair):
            continue
        far_left, left, (before, after), right, far_right = ((a, b) for a, b in around)
        assert_allclose(after, before, rtol=0, atol=1e-9)
        # One-sided differences of second order.
        velocity_before = (3 * before - 4 * left[1] + far_left[1]) / (2 * STEP)
        velocity_after = (-3 * after + 4 * right[0] - far_right[0]) / (2 * STEP)
        assert_allclose(velocity_after, velocity_before, rtol=0, atol=1e-3)


@every_takeover
@given(coming=arrivals(), rate=st.sampled_from([50.0, 500.0]))
def test_nothing_is_asked_that_no_accepted_chunk_promised(name, coming, rate):
    for accepted, now, target in played(name, coming, rate):
        if target is not None:
            assert any(promises(chunk, now) for chunk in accepted)
            assert np.isfinite(target).all()


@every_takeover
@given(coming=arrivals(latest_first_action=-0.04), rate=st.sampled_from([50.0, 500.0]))
def test_where_no_action_lies_ahead_what_is_promised_is_asked(name, coming, rate):
    for accepted, now, target in played(name, coming, rate):
        followed = accepted if name == "ensemble" else accepted[-1:]
        assert (target is not None) == any(promises(chunk, now) for chunk in followed)


def promises(chunk, now):
    return chunk.stamp + chunk.times[0] <= now <= chunk.stamp + chunk.times[-1]


def played(name, coming, rate):
    """At every control period: the chunks accepted so far, the time, the target."""
    executor = ChunkExecutor(takeover=takeover(name))
    accepted, waiting = [], list(coming)
    for now in np.arange(coming[0][0], coming[-1][0] + 0.5, 1 / rate):
        while waiting and waiting[0][0] <= now:
            chunk = waiting.pop(0)[1]
            if executor.offer(chunk, now) is None:
                accepted.append(chunk)
        yield accepted, now, executor.target(now)
