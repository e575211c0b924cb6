"""Rows of pruning studies as tests want them."""

from __future__ import annotations

from results.action_error import ActionError
from results.pruned_row import LatencyRatio, PrunedRow
from results.row import Success


def pruned_row(
    method: str, failed: tuple[int, ...], *, of: int = 20, finetuned: int = 0, **changed: object
) -> PrunedRow:
    """Of ``of`` episodes those of the seeds ``failed`` failed; of 3 of 8 layers on one task where not ``changed``."""
    success = Success.counted({seed: seed not in failed for seed in range(of)})
    fields = {
        "study": "depth",
        "bundle": f"{method}-{finetuned}",
        "baseline": "original",
        "task": "lift",
        "condition": "nominal",
        "success": success,
        "action_error": ActionError(0.01, 0.2, 0.1, 0.02),
        "module": "layers",
        "method": method,
        "draw": None,
        "asked": 0.33,
        "fraction": 0.375,
        "removed": "layers 4, 5, 7",
        "finetuned": finetuned,
        "latency": LatencyRatio(0.7, 0.6, 0.8),
    }
    return PrunedRow.model_validate(fields | changed)
