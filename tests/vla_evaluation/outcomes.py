"""Outcomes made up for tests."""

from __future__ import annotations

from typing import Any

from vla_evaluation.outcome import Outcome


def outcome(seed: int, success: bool = True, **changes: Any) -> Outcome:
    """An outcome of the first bundle under the nominal condition, but for ``changes``."""
    fields = {
        "bundle": "bundle",
        "condition": "nominal",
        "colour": "red",
        "instruction": "reach the red cube",
        "succeeded_at": 1.0 if success else None,
        "holding": success,
        "duration": 6.0,
        "path_length": 0.2,
        "jerk": 3.0,
        "chunks": 8,
        "chunk_latency": 12.0,
    } | changes
    key = f"{fields['bundle']}-{fields['condition']}-{seed}"
    return Outcome(key=key, seed=seed, success=success, **fields)
