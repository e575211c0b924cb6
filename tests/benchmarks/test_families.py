"""Contestants that do not compute the same are never compared; ratios are taken round by round."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contestants import Chunk, Contestant, Lap
from benchmarks.families import TORCH, WAYS, Result, baseline, check, ratios, spread
from vla_runtime.bundle.golden import GoldenSample
from vla_runtime.errors import WorkFailed

CHUNK = np.linspace(-1, 1, 10, dtype=np.float32).reshape(1, 5, 2)
SAMPLE = GoldenSample(inputs={}, noise=CHUNK, prefix={}, step=CHUNK, chunk=CHUNK)


class Scaled(Contestant):
    """Its first chunk is nonsense, as long as that is not taken; the others are off by a factor."""

    def __init__(self, name: str, factor: float) -> None:
        super().__init__(name)
        self._factors = iter((float("nan"), factor))

    def run(self) -> tuple[Lap, Chunk]:
        return Lap(1.0, 1.0, {}), CHUNK * np.float32(next(self._factors))


@pytest.mark.parametrize(
    ("name", "error", "passes"),
    [
        ("bundle fp32", 1e-5, True),
        ("bundle fp32", 1e-3, False),
        ("bundle int8", 2e-2, True),
        ("bundle int8", 2e-1, False),
        ("LeRobot float32 eager", 1e-3, False),
        ("LeRobot float32 compiled", 1e-3, False),
        ("LeRobot bfloat16 eager", 1e-1, True),
        ("LeRobot bfloat16 eager", float("nan"), False),
    ],
)
def test_only_contestants_that_compute_the_same_compete(name: str, error: float, passes: bool) -> None:
    contestant = Scaled(name, 1 + error)
    if passes:
        assert check(contestant, SAMPLE) == pytest.approx(error, rel=0.05)
    else:
        with pytest.raises(WorkFailed, match=f"{name} does not compute what PyTorch does"):
            check(contestant, SAMPLE)


def result(name: str, *seconds: float) -> Result:
    return Result(name, 0.0, [Lap(s, s, {}) for s in seconds])


def test_a_round_in_which_the_machine_was_slow_for_all_changes_no_ratio() -> None:
    base, ours = result("base", 2.0, 20.0, 4.0), result("ours", 1.0, 10.0, 2.0)
    found = ratios(base, ours)
    assert (found.median, found.lower, found.upper) == (2.0, 2.0, 2.0)


def test_the_spread_is_the_quartiles() -> None:
    found = spread([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (found.lower, found.median, found.upper) == (2.0, 3.0, 4.0)


def test_lerobot_is_the_baseline_if_it_runs_and_our_pytorch_model_otherwise() -> None:
    ours = [result(TORCH, 1.0), result("bundle fp32", 1.0)]
    theirs = [result(f"LeRobot {way}", 1.0) for way in WAYS]
    assert baseline(theirs + ours).name == "LeRobot float32 eager"
    assert baseline(ours).name == TORCH
