"""LeRobot 0.6.1's real-time chunking over a known velocity: what the identity form and its weights are compared with.

Run in an environment with ``lerobot[pi]==0.6.1`` (Python 3.12):

    python tests/oracles/rtc_lerobot.py tests/vla_runtime/policy/data/rtc_lerobot_0.6.1.npz
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.common.flow_matching import euler_integrate
from lerobot.policies.rtc import RTCConfig, RTCProcessor

HORIZON, WIDTH, STEPS, BETA = 12, 8, 10, 5.0
SCHEDULES = {"linear": RTCAttentionSchedule.LINEAR, "exponential": RTCAttentionSchedule.EXP}
# Frozen actions and actions still to come: none frozen, the usual, all that are left, more than are left, all there is.
CASES = ((0, 8), (3, 8), (8, 8), (9, 5), (4, 12), (0, 1))


def velocity(chunk: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Curved, and different for each action and number."""
    return torch.sin(3 * chunk) + time[:, None, None] * torch.cos(chunk.roll(1, dims=1))


def main(path: str) -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(1, HORIZON, WIDTH)).astype(np.float32)
    former = draw.normal(size=(HORIZON, WIDTH)).astype(np.float32)
    arrays = {"noise": noise, "former": former}
    for name, schedule in SCHEDULES.items():
        config = RTCConfig(prefix_attention_schedule=schedule, max_guidance_weight=BETA, execution_horizon=HORIZON)
        processor = RTCProcessor(config)
        for frozen, known in CASES:
            case = f"{name}_{frozen}_{known}"
            arrays[f"weights_{case}"] = processor.get_prefix_weights(frozen, known, HORIZON).numpy()
            arrays[f"chunk_{case}"] = (
                euler_integrate(
                    velocity,
                    torch.from_numpy(noise),
                    STEPS,
                    rtc_processor=processor,
                    rtc_enabled=True,
                    inference_delay=frozen,
                    prev_chunk_left_over=torch.from_numpy(former[:known]),
                    execution_horizon=known,
                )
                .detach()
                .numpy()
            )
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
