"""What everything put together came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.markdown import difference, ranged, share, table
from results.tables.lines import lines_of
from results.together import Loss, TogetherRow


def front(figures: Mapping[str, Any]) -> str:
    """Every combination, numbered as in the picture; those on the front of a task in bold."""
    rows = [TogetherRow.model_validate(row) for row in figures["rows"]]
    lost = {(one.task, one.combination): one.success for one in map(Loss.model_validate, figures["losses"])}
    tasks = list(dict.fromkeys(row.task for row in rows))
    lines = []
    for number, group in enumerate(lines_of(rows, lambda row: row.combination)):
        one = group[0]
        lines.append(
            [
                str(number),
                one.combination,
                *(f"**{row.success.text()}**" if row.front else row.success.text() for row in group),
                *(
                    difference(lost[row.task, row.combination]) if (row.task, row.combination) in lost else "–"
                    for row in group
                ),
                share(one.action_error),
                ranged(one.latency.median, (one.latency.low, one.latency.high)),
                f"{one.size / 1e6:.1f} MB",
            ]
        )
    head = ["", "combination", *tasks, *(f"{task}: points lost or won" for task in tasks), f"{tasks[0]}: worst share"]
    return table([*head, "time / uncompressed", "size"], lines)


def picks(figures: Mapping[str, Any]) -> str:
    """What the search took out."""
    rows = [TogetherRow.model_validate(row) for row in figures["rows"]]
    picks = dict.fromkeys((row.prune, row.removed) for row in rows if row.searched)
    return table(["`--prune`", "what went"], [[f"`{prune}`", removed] for prune, removed in picks])
