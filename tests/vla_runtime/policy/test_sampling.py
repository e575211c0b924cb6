"""The Euler loop, free and continuing a former chunk, against LeRobot's over a velocity both know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.policy.rtc import Rtc, RtcForm, Schedule, Target, target
from vla_runtime.policy.sampling import continuing_steps, euler_steps, flow_times
from vla_runtime.profiling.spans import Spans

GOLDEN = Path(__file__).parent / "data" / "flow_lerobot_0.6.1.npz"
RTC_GOLDEN = Path(__file__).parent / "data" / "rtc_lerobot_0.6.1.npz"


class KnownVelocity:
    """velocity(x, t) = sin(3x) + t, as in the script that made the golden file."""

    name = "known velocity"
    can_guide = True

    def __init__(self) -> None:
        self.entered: list[NDArray[np.float32]] = []
        self.guided_by: list[tuple[Any, ...]] = []

    def encode(self, inputs: Any) -> None:
        return None

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Any) -> NDArray[np.float32]:
        self.entered.append(chunk)
        return chunk + np.float32(next_time - time) * self.velocity(chunk, time)

    def velocity(self, chunk: NDArray[np.float32], time: float) -> NDArray[np.float32]:
        return np.sin(3 * chunk) + np.float32(time)

    def guided(
        self,
        chunk: NDArray[np.float32],
        time: float,
        next_time: float,
        prefix: Any,
        previous: NDArray[np.float32],
        weights: NDArray[np.float32],
        beta: float,
    ) -> NDArray[np.float32]:
        self.guided_by.append((time, next_time, prefix, previous, weights, beta))
        return chunk + 1

    def prefix_arrays(self, prefix: Any) -> dict[str, NDArray[Any]]:
        return {}


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_equals_lerobot(steps: int) -> None:
    with np.load(GOLDEN) as golden:
        *_, chunk = euler_steps(KnownVelocity(), None, golden["noise"], steps, Spans())
        np.testing.assert_allclose(chunk, golden[f"chunk_{steps}"], atol=2e-6)
        np.testing.assert_array_equal(
            np.array([time for time, _ in flow_times(steps)], np.float32), golden[f"times_{steps}"]
        )


@pytest.mark.parametrize("steps", [1, 5, 7, 10])
def test_times_run_from_noise_to_actions_without_a_gap(steps: int) -> None:
    times = flow_times(steps)
    assert len(times) == steps
    assert times[0][0] == 1
    assert times[-1][1] == pytest.approx(0, abs=1e-12)
    assert [later for _, later in times[:-1]] == [time for time, _ in times[1:]]


def test_every_step_is_timed_and_yielded() -> None:
    spans = Spans()
    chunks = list(euler_steps(KnownVelocity(), None, np.zeros((1, 2, 3), np.float32), 4, spans))
    assert len(chunks) == len(spans.seconds("denoise")) == 4


class Curved(KnownVelocity):
    """As in the script that made LeRobot's golden file of real-time chunking."""

    def velocity(self, chunk: NDArray[np.float32], time: float) -> NDArray[np.float32]:
        return np.sin(3 * chunk) + np.float32(time) * np.cos(np.roll(chunk, 1, axis=1))


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_the_identity_form_is_lerobots(schedule: Schedule) -> None:
    with np.load(RTC_GOLDEN) as golden:
        cases = [name for name in golden if name.startswith(f"chunk_{schedule}")]
        assert len(cases) == 6
        for name in cases:
            frozen, known = map(int, name.split("_")[2:])
            former = target(golden["former"][:known], frozen, 12, schedule)
            rtc = Rtc("identity", schedule, beta=5.0)
            *_, chunk = continuing_steps(Curved(), None, golden["noise"], 10, Spans(), rtc, former)
            np.testing.assert_allclose(chunk, golden[name], atol=1e-5, err_msg=name)
            *_, free = euler_steps(Curved(), None, golden["noise"], 10, Spans())
            assert np.abs(free - golden[name]).max() > 0.1


def former_chunk(frozen: int = 2) -> tuple[NDArray[np.float32], Target]:
    draw = np.random.default_rng(1)
    former = draw.normal(size=(5, 3)).astype(np.float32)
    return draw.normal(size=(1, 6, 3)).astype(np.float32), target(former, frozen, 6, "exponential")


@pytest.mark.parametrize("steps", [1, 3, 7, 49])
def test_hard_frozen_actions_enter_each_step_at_its_noise_and_leave_as_they_were(steps: int) -> None:
    noise, former = former_chunk()
    engine = KnownVelocity()
    *_, chunk = continuing_steps(engine, None, noise, steps, Spans(), Rtc("hard"), former)
    for entered, (t, _) in zip(engine.entered, flow_times(steps), strict=True):
        np.testing.assert_allclose(entered[:, :2], t * noise[:, :2] + (1 - t) * former.chunk[:, :2], atol=1e-6)
    np.testing.assert_array_equal(chunk[:, :2], former.chunk[:, :2])
    *_, free = euler_steps(KnownVelocity(), None, noise, steps, Spans())
    np.testing.assert_array_equal(chunk[:, 2:], free[:, 2:])


def test_with_nothing_frozen_hard_is_free() -> None:
    noise, former = former_chunk(frozen=0)
    *_, chunk = continuing_steps(KnownVelocity(), None, noise, 4, Spans(), Rtc("hard"), former)
    *_, free = euler_steps(KnownVelocity(), None, noise, 4, Spans())
    np.testing.assert_array_equal(chunk, free)


def test_identity_pulls_where_the_weights_are_and_the_more_the_larger_beta() -> None:
    noise, former = former_chunk()
    *_, free = euler_steps(KnownVelocity(), None, noise, 10, Spans())

    def distance(beta: float) -> NDArray[np.float32]:
        rtc = Rtc("identity", beta=beta)
        *_, chunk = continuing_steps(KnownVelocity(), None, noise, 10, Spans(), rtc, former)
        np.testing.assert_allclose(chunk[:, 5:], free[:, 5:], atol=1e-6)
        return np.abs(chunk - former.chunk)[:, :2].max()

    assert distance(5.0) < distance(1.0) < np.abs(free - former.chunk)[:, :2].max()
    assert distance(1e-9) == pytest.approx(np.abs(free - former.chunk)[:, :2].max(), abs=1e-5)


def test_guided_leaves_every_step_to_the_engine() -> None:
    noise, former = former_chunk()
    engine, prefix = KnownVelocity(), object()
    *_, chunk = continuing_steps(engine, prefix, noise, 4, Spans(), Rtc("guided", beta=3.0), former)
    np.testing.assert_array_equal(chunk, noise + 1 + 1 + 1 + 1)
    assert engine.entered == []
    assert [given[:2] for given in engine.guided_by] == flow_times(4)
    for given in engine.guided_by:
        assert given[2] is prefix
        assert given[3] is former.chunk
        assert given[4] is former.weights
        assert given[5] == 3.0


@pytest.mark.parametrize("form", ["hard", "identity", "guided"])
def test_every_continuing_step_is_timed(form: RtcForm) -> None:
    noise, former = former_chunk()
    spans = Spans()
    assert len(list(continuing_steps(KnownVelocity(), None, noise, 4, spans, Rtc(form), former))) == 4
    assert len(spans.seconds("denoise")) == 4
