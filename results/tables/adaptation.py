"""What adapters learnt and forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from results import adaptation
from results.markdown import difference, table


def success(figures: Mapping[str, Any]) -> str:
    """Every method in both settings."""
    rows = [adaptation.AdaptationRow.model_validate(row) for row in figures["rows"]]
    trained = {one.method: one for one in _trainings(figures)}
    places = list(dict.fromkeys((row.condition, row.task) for row in rows))
    found = {(row.method, row.condition, row.task): row.success.text() for row in rows}
    return table(
        ["", "parameters trained", *(f"{task}, {condition}" for condition, task in places)],
        [
            [
                trained[method].title if method in trained else method,
                f"{trained[method].parameters:,}" if method in trained else "–",
                *(found[(method, *place)] for place in places),
            ]
            for method in dict.fromkeys(row.method for row in rows)
        ],
    )


def differences(figures: Mapping[str, Any]) -> str:
    """Every adapter against the base and against plain LoRA."""
    found = TypeAdapter(list[adaptation.Comparison]).validate_python(figures["comparisons"])
    titles = {one.method: one.title for one in _trainings(figures)}
    return table(
        ["task", "setting", "first", "less", "points"],
        [
            [one.task, one.condition, titles[one.first], titles.get(one.second, one.second), difference(one.success)]
            for one in found
        ],
    )


def active_ranks(figures: Mapping[str, Any]) -> str:
    """How many directions a token uses at the start, in the middle and at the end of training."""
    rows = []
    for one in _trainings(figures):
        for stack, by_step in one.active.items():
            steps = sorted(by_step)
            at = (steps[0], steps[len(steps) // 2], steps[-1])
            used = (f"{by_step[step]:.1f} (step {step})" for step in at)
            rows.append([one.title, stack, str(one.directions), *used])
    return table(["", "stack", "directions", "at first", "half way", "at last"], rows)


def _trainings(figures: Mapping[str, Any]) -> list[adaptation.Training]:
    return TypeAdapter(list[adaptation.Training]).validate_python(figures["training"])
