"""What became of policies that lost layers, channels or heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from results.markdown import decided, difference, joints, ranged, share, table
from results.pruned_row import Comparison, PrunedRow
from results.tables.lines import lines_of


def success(figures: Mapping[str, Any]) -> str:
    """Every smaller policy."""
    rows = [PrunedRow.model_validate(row) for row in figures["rows"]]
    tasks = list(dict.fromkeys(row.task for row in rows))
    lines = []
    for group in lines_of(rows, lambda row: (row.bundle, row.module, row.chooser, row.asked)):
        one = group[0]
        lines.append(
            [
                one.removed if one.module in ("none", "layers") else f"{one.module}: {one.removed}",
                one.chooser,
                f"{one.asked:g}" if one.asked else "–",
                f"{one.finetuned} steps" if one.finetuned else "–",
                *(row.success.text() for row in group),
                joints(one.action_error),
                share(one.action_error),
                "–" if one.latency is None else ranged(one.latency.median, (one.latency.low, one.latency.high)),
            ]
        )
    first = tasks[0]
    head = ["removed", "chosen by", "asked", "finetuned", *tasks, f"{first}: joints off [rad]", f"{first}: worst share"]
    return table([*head, "time / whole"], lines)


def differences(figures: Mapping[str, Any]) -> str:
    """Choices whose success surely differs."""
    found = TypeAdapter(list[Comparison]).validate_python(figures["comparisons"])
    return table(
        ["task", "asked", "first", "less", "points"],
        [
            [one.task, f"{one.asked:g} of {one.module}", one.first, one.second, difference(one.success)]
            for one in found
            if decided(one.success)
        ],
    )
