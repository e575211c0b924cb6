"""LeRobot's temporal ensembling, computed by LeRobot's own Python (lerobot_tiny.py says how to make it).

    lerobot-env/bin/python tests/oracles/ensemble_lerobot.py

Writes goldens/ensemble.safetensors: a chunk for every control step, shape (steps, horizon, 7), and the actions that
`ACTTemporalEnsembler` makes of them with ACT's coefficient, shape (steps, 7).
"""

from __future__ import annotations

from pathlib import Path

import torch
from lerobot.policies.act.modeling_act import ACTTemporalEnsembler
from safetensors.torch import save_file

STEPS, HORIZON = 20, 8


def main() -> None:
    chunks = torch.randn(STEPS, HORIZON, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.set_default_dtype(torch.float64)  # of the weights
    ensembler = ACTTemporalEnsembler(0.01, HORIZON)
    actions = torch.stack([ensembler.update(chunk[None])[0] for chunk in chunks])
    goldens = Path(__file__).parent / "goldens" / "ensemble.safetensors"
    save_file({"chunks": chunks, "actions": actions}, goldens)


if __name__ == "__main__":
    main()
