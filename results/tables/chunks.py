"""What ways from chunk to chunk came to when chunks came late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.chunks import DEFAULT, ChunkComparison, ChunkRow
from results.markdown import difference, table


def success(figures: Mapping[str, Any]) -> str:
    """Success and jerk of every strategy, by latency."""
    rows = [ChunkRow.model_validate(row) for row in figures["rows"]]
    cells = list(dict.fromkeys((row.speed, row.latency) for row in rows))
    found = {(row.strategy, row.speed, row.latency): row for row in rows}
    heads = (f"{1e3 * late:.0f} ms" + ("" if speed else ", belt at rest") for speed, late in cells)
    return table(
        ["", *heads],
        [
            [f"`{name}`", *(_chunk_cell(found[(name, *cell)]) for cell in cells)]
            for name in dict.fromkeys(row.strategy for row in rows)
        ],
    )


def _chunk_cell(row: ChunkRow) -> str:
    return f"{row.success.text()} · {row.jerk:.0f} ({row.jerk_low:.0f}–{row.jerk_high:.0f})"


def differences(figures: Mapping[str, Any]) -> str:
    """Every strategy against the arm node's default."""
    found = [ChunkComparison.model_validate(entry) for entry in figures["comparisons"]]
    against = [one for one in found if one.speed]
    latencies = list(dict.fromkeys(one.latency for one in against))
    cells = {(one.first, one.latency): difference(one.success) for one in against}
    return table(
        [f"less `{DEFAULT}`, points", *(f"{1e3 * late:.0f} ms" for late in latencies)],
        [[f"`{name}`", *(cells[name, late] for late in latencies)] for name in dict.fromkeys(x.first for x in against)],
    )
