"""Which rows of figures belong on one line of a table."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from results.row import Row

_RowType = TypeVar("_RowType", bound=Row)


def lines_of(rows: Sequence[_RowType], key: Callable[[_RowType], Hashable]) -> list[list[_RowType]]:
    """Rows of the same key, in the order in which they first come: one for each task."""
    lines: dict[Hashable, list[_RowType]] = {}
    for row in rows:
        lines.setdefault(key(row), []).append(row)
    return list(lines.values())
