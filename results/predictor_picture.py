"""A picture of what bundles lost in closed loop against how far off their actions were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from results.pool import HARM, Judged

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
_LEAST = 1e-5  # errors below are drawn there: a lossless bundle has none, which no logarithm shows


def draw(pooled: Sequence[Judged], budget: float, path: Path) -> None:
    """Write the picture, with the default budget as a line; filled: as exported, hollow: finetuned afterwards."""
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.subplots()
    for study, colour in zip(dict.fromkeys(one.study for one in pooled), _COLOURS, strict=False):
        for finetuned in (False, True):
            chosen = [one for one in pooled if (one.study, one.finetuned) == (study, finetuned)]
            if not chosen:
                continue
            lost = [100 * one.lost.difference for one in chosen]
            axes.errorbar(
                [max(one.error.worst_share_of_scale, _LEAST) for one in chosen],
                lost,
                yerr=[
                    [value - 100 * one.lost.lower for value, one in zip(lost, chosen, strict=True)],
                    [100 * one.lost.upper - value for value, one in zip(lost, chosen, strict=True)],
                ],
                fmt="o",
                color=colour,
                markerfacecolor="white" if finetuned else colour,
                markersize=4.5,
                linewidth=0.6,
                label=f"{study}, finetuned" if finetuned else study,
            )
    axes.axvline(budget, color="0.4", linestyle=":", label=f"default error budget, {budget:g}")
    axes.axhline(100 * HARM, color="0.7", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("RMS error of the worst number of the action, as a share of its scale")
    axes.set_ylabel("success lost against what it was made of [points]")
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)
