"""A picture of strategies under latency: success, jerk, and how far chunks disagree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from results.chunks import ChunkRow

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_ASIDE = 0.004  # [s], between two strategies under one latency, so that intervals do not hide each other


def draw(rows: Sequence[ChunkRow], path: Path) -> None:
    """Write the picture; ``rows`` are of one belt. Bars are 95 % intervals."""
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    success, jerk, off = figure.subplots(1, 3)
    names = list(dict.fromkeys(row.strategy for row in rows))
    for rank, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        own = [row for row in rows if row.strategy == name]
        times = [1e3 * (row.latency + (rank - (len(names) - 1) / 2) * _ASIDE) for row in own]
        rates = [100 * row.success.rate for row in own]
        limits = [(100 * row.success.low, 100 * row.success.high) for row in own]
        _line(success, times, rates, limits, name, colour)
        _line(jerk, times, [row.jerk for row in own], [(row.jerk_low, row.jerk_high) for row in own], name, colour)
        off.plot(times, [row.off for row in own], "o-", color=colour, markersize=4)
    success.set_title(f"lifted from a belt of {1e2 * rows[0].speed:g} cm/s [%]", fontsize=10)
    success.set_ylim(-3, 103)
    jerk.set_title("jerk of the targets at takeovers, rms [rad/s³]", fontsize=10)
    jerk.set_ylim(bottom=0)
    off.set_title("new chunk off what was asked, 95th percentile [rad]", fontsize=10)
    off.set_ylim(bottom=0)
    for axes in (success, jerk, off):
        axes.set_xticks(sorted({1e3 * row.latency for row in rows}))
        axes.set_xlabel("injected latency [ms]")
        axes.grid(alpha=0.25)
    handles, labels = success.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=len(labels))
    figure.savefig(path, dpi=110)


def _line(
    axes: Axes,
    times: Sequence[float],
    values: Sequence[float],
    limits: Sequence[tuple[float, float]],
    name: str,
    colour: str,
) -> None:
    # Rounding must not turn an interval that ends at the value into a negative length.
    below = [max(0.0, value - low) for value, (low, _) in zip(values, limits, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, limits, strict=True)]
    axes.errorbar(
        times, values, (below, above), fmt="o-", color=colour, label=name, markersize=4, linewidth=1.4, capsize=2
    )
