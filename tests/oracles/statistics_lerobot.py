"""What LeRobot 0.6.1's normaliser makes of a few vectors: the golden file that `normalise` is compared with.

Run in an environment with ``lerobot[pi]==0.6.1`` (Python 3.12):

    python tests/oracles/statistics_lerobot.py tests/vla_runtime/policy/data/statistics_lerobot_0.6.1.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.common.vla_utils import pad_vector
from lerobot.processor import NormalizerProcessorStep, UnnormalizerProcessorStep

WIDTH = 32


def main(path: str) -> None:
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=7).astype(np.float32), rng.uniform(0.01, 2, 7).astype(np.float32)
    std[3] = 0  # a joint that never moved while recording
    settings = {
        "features": {
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(7,)),
            "action": PolicyFeature(type=FeatureType.ACTION, shape=(7,)),
        },
        "norm_map": {FeatureType.STATE: NormalizationMode.MEAN_STD, FeatureType.ACTION: NormalizationMode.MEAN_STD},
        "stats": {key: {"mean": mean, "std": std} for key in ("observation.state", "action")},
    }
    state = (mean + std * rng.normal(size=(5, 7))).astype(np.float32)
    action = rng.normal(size=(16, WIDTH)).astype(np.float32)
    normaliser, unnormaliser = NormalizerProcessorStep(**settings), UnnormalizerProcessorStep(**settings)
    normalised = normaliser._normalize_observation({"observation.state": torch.from_numpy(state)}, inverse=False)
    np.savez_compressed(
        path,
        mean=mean,
        std=std,
        state=state,
        normalised=pad_vector(normalised["observation.state"], WIDTH).numpy(),
        action=action,
        unnormalised=unnormaliser._normalize_action(torch.from_numpy(action[:, :7]), inverse=True).numpy(),
    )


if __name__ == "__main__":
    main(sys.argv[1])
