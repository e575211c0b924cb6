"""How long a bundle's chunk takes, as a share of another's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import floor, sqrt
from pathlib import Path

import numpy as np

from results.opened import opened
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.policy import Policy
from vla_runtime.policy.units import to_si

_WARM_UP = 5


def ratio(bundle: Path, original: Path, rounds: int) -> tuple[float, float, float]:
    """The median of the rounds' ``bundle`` / ``original`` and its 95 % interval; below 1 the bundle is faster.

    A round is one chunk of each, from images to actions, one right after the other and each first in every second
    round: what slows the machine during a whole round cancels. Raises `BadInput` for what is no bundle, `ValueError`
    for fewer than 6 rounds, whose extremes hold the median less surely than that.
    """
    policies = [_ready(path) for path in (bundle, original)]
    ratios = []
    for n in range(_WARM_UP + rounds):
        seconds = [0.0, 0.0]
        for which in (0, 1) if n % 2 else (1, 0):
            policy, observation = policies[which]
            start = time.perf_counter()
            policy.infer(observation)
            seconds[which] = time.perf_counter() - start
        ratios.append(seconds[0] / seconds[1])
    return median_interval(ratios[_WARM_UP:])


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the values between which the true one lies in 95 of 100 samples.

    Those of rank k and n + 1 − k, k = ⌊(n − 1.96 √n) / 2⌋ at least 1, whatever the distribution: W. J. Conover,
    "Practical Nonparametric Statistics", 3rd ed. 1999, section 3.2. Raises `ValueError` for fewer than 6 values.
    """
    if len(values) < 6:
        raise ValueError(f"{len(values)} values: an interval of 95 % needs 6")
    ordered, n = sorted(values), len(values)
    rank = max(1, floor((n - 1.96 * sqrt(n)) / 2))
    return float(np.median(ordered)), ordered[rank - 1], ordered[n - rank]


def _ready(path: Path) -> tuple[Policy, Observation]:
    bundle, policy = opened(path)
    policy.set_task("pick up the red cube")
    return policy, _observation(bundle)


def _observation(bundle: Bundle) -> Observation:
    """Noise in every picture and the mean state: what is seen does not change how long it takes."""
    generator = np.random.default_rng(0)
    images = {
        camera.name: generator.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
        for camera in bundle.manifest.cameras
    }
    state = bundle.manifest.state
    return Observation(images, to_si(np.asarray(state.normalisation.offset), state))
