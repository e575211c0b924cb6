"""The Euler loop against LeRobot's, over a velocity both know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.policy.sampling import euler_steps, flow_times
from vla_runtime.profiling.spans import Spans

GOLDEN = Path(__file__).parent / "data" / "flow_lerobot_0.6.1.npz"


class KnownVelocity:
    """velocity(x, t) = sin(3x) + t, as in the script that made the golden file."""

    name = "known velocity"

    def encode(self, inputs: Any) -> None:
        return None

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Any) -> NDArray[np.float32]:
        velocity = np.sin(3 * chunk) + np.float32(time)
        return chunk + np.float32(next_time - time) * velocity

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
