"""Which tables the page of results has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from results.tables import adaptation, chunks, merging, predictor, pruning, together


class PageTable(NamedTuple):
    """study: whose figures it shows. write: figures → Markdown."""

    study: str
    write: Callable[[Mapping[str, Any]], str]


TABLES: Mapping[str, PageTable] = {
    "adaptation": PageTable("adaptation", adaptation.success),
    "adaptation differences": PageTable("adaptation", adaptation.differences),
    "active ranks": PageTable("adaptation", adaptation.active_ranks),
    "merging": PageTable("merging", merging.success),
    "merging differences": PageTable("merging", merging.differences),
    "merging layers": PageTable("merging", merging.layers),
    "depth": PageTable("depth", pruning.success),
    "depth differences": PageTable("depth", pruning.differences),
    "width": PageTable("width", pruning.success),
    "width differences": PageTable("width", pruning.differences),
    "together": PageTable("together", together.front),
    "together picks": PageTable("together", together.picks),
    "chunks": PageTable("chunks", chunks.success),
    "chunks differences": PageTable("chunks", chunks.differences),
    "predictor": PageTable("predictor", predictor.measures),
    "budgets": PageTable("predictor", predictor.budgets),
    "proposals": PageTable("predictor", predictor.proposals),
}
"""By the name between the page's markers."""
