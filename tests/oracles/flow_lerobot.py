"""LeRobot 0.6.1's Euler loop over a known velocity: the golden file that `euler_steps` is compared with.

Run in an environment with ``lerobot[pi]==0.6.1`` (Python 3.12):

    python tests/oracles/flow_lerobot.py tests/vla_runtime/policy/data/flow_lerobot_0.6.1.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from lerobot.policies.common.flow_matching import euler_integrate


def main(path: str) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32)
    arrays = {"noise": noise}
    for steps in (1, 3, 10):
        times: list[float] = []

        def velocity(chunk: torch.Tensor, time: torch.Tensor, times: list[float] = times) -> torch.Tensor:
            times.append(float(time[0]))
            return torch.sin(3 * chunk) + time[:, None, None]

        arrays[f"chunk_{steps}"] = euler_integrate(velocity, torch.from_numpy(noise), steps).numpy()
        arrays[f"times_{steps}"] = np.array(times, np.float32)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
