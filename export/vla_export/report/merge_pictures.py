"""The report's pictures of an adapter: what merging loses, and how many directions tokens use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from vla_export.adapters.exact_merge import ExactLayer
from vla_export.adapters.merge import MergeReport
from vla_export.adapters.placement import layer_number
from vla_export.adapters.static_merge import StaticLayer

# LoRA-SP (arXiv 2603.07404): mean active ranks of its bank of 128 after training π0 on three PiPER tasks.
PUBLISHED_RANKS = (12.0, 14.0)
_BLUE, _GREY, _BAND = "#3d6fa5", "0.72", "#e9c46a"
_TINY = 1e-6  # residuals below are drawn there


def draw_residuals(merge: MergeReport, path: Path) -> None:
    """Residual energy of every branch by layer, one panel per stack, one colour per kind of linear."""
    fits = [] if merge.static is None else list(merge.static.layers)
    stacks = list(dict.fromkeys(fit.stack for fit in fits))
    kinds = list(dict.fromkeys(fit.kind for fit in fits))
    colours = {kind: colormaps["tab10" if len(kinds) <= 10 else "tab20"](n % 20) for n, kind in enumerate(kinds)}
    figure = Figure(figsize=(10, 0.6 + 2.5 * len(stacks)), layout="constrained")
    panels = figure.subplots(len(stacks), 1, squeeze=False, sharey=True)[:, 0]
    for axes, stack in zip(panels, stacks, strict=True):
        _residual_panel(axes, [fit for fit in fits if fit.stack == stack], colours)
        axes.set_title(stack, loc="left", fontsize=10)
    figure.supylabel("lost energy, as a share of the branch's own", fontsize=10)
    handles = [Line2D([], [], color=colour, marker="o", linestyle="", label=kind) for kind, colour in colours.items()]
    handles.append(Line2D([], [], color="0.35", marker="o", markerfacecolor="white", linestyle="", label="kept exact"))
    handles.append(Line2D([], [], color="0.35", marker="_", markersize=9, linestyle="", label="mean scores"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 9), frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def _residual_panel(axes: Axes, fits: Sequence[StaticLayer], colours: Mapping[str, object]) -> None:
    """Kinds stand beside each other within their layer; linears in no layer stand one after the other by name."""
    kinds = list(dict.fromkeys(fit.kind for fit in fits))
    numbers = [layer_number(fit.path) for fit in fits]
    numbered = all(number is not None for number in numbers)
    for place, (fit, number) in enumerate(zip(fits, numbers, strict=True)):
        x = float(place)
        if numbered and number is not None:
            x = number + 0.8 * ((kinds.index(fit.kind) + 0.5) / len(kinds) - 0.5)
        colour = colours[fit.kind]
        best, scores = max(fit.residual_least_squares, _TINY), max(fit.residual_mean_scores, _TINY)
        axes.plot([x, x], [best, scores], color=_GREY, linewidth=0.8, zorder=1)
        axes.plot([x], [scores], marker="_", markersize=7, color=colour, zorder=2)
        face = colour if fit.decision == "static" else "white"
        axes.plot([x], [best], marker="o", markersize=4, color=colour, markerfacecolor=face, zorder=3)
    axes.axhline(1.0, color="0.4", linestyle="--", linewidth=0.8, zorder=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color="0.92", zorder=0)
    if numbered:
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set_xticks(range(len(fits)), [fit.path for fit in fits], rotation=20, ha="right")


def draw_mean_ranks(merge: MergeReport, path: Path) -> None:
    """Active rank by kind of linear in each stack, beside LoRA-SP's own figure where it is a LoRA-SP adapter."""
    groups: dict[tuple[str, str], list[ExactLayer]] = {}
    for layer in merge.exact.layers:
        if layer.layer.bank:
            groups.setdefault((layer.stack, layer.kind), []).append(layer)
    figure = Figure(figsize=(9, 1.3 + 0.3 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for place, members in enumerate(groups.values()):
        means = [layer.mean_rank for layer in members]
        mean = sum(means) / len(means)
        axes.barh([place], [mean], color=_BLUE, height=0.7)
        axes.plot([min(means), max(means)], [place, place], color="0.15", linewidth=1.5)
        most = max(layer.max_rank for layer in members)
        axes.plot([most], [place], marker="|", markersize=9, color="0.45")
        axes.annotate(f"{mean:.1f}", (most, place), xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(groups)), [" ".join(group) for group in groups])
    axes.invert_yaxis()
    handles = [
        Line2D([], [], color=_BLUE, linewidth=6, label="mean"),
        Line2D([], [], color="0.15", linewidth=1.5, label="means of its layers"),
        Line2D([], [], color="0.45", marker="|", markersize=9, linestyle="", label="most of one token"),
    ]
    if merge.settings.get("method") == "lora_sp":
        axes.axvspan(*PUBLISHED_RANKS, color=_BAND, alpha=0.6, zorder=0)
        label = "LoRA-SP's paper: 12–14 of 128, π0 on PiPER"
        handles.append(Line2D([], [], color=_BAND, alpha=0.6, linewidth=6, label=label))
    banks = sorted({layer.layer.bank for members in groups.values() for layer in members})
    axes.set_xlabel(f"directions per token, of a bank of {' or '.join(map(str, banks))}")
    axes.set_xlim(0, 1.08 * axes.get_xlim()[1])
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def draw_ranks(merge: MergeReport, path: Path) -> None:
    """Share of a stack's tokens, over all of its linears, by how many directions they use."""
    tokens: dict[str, list[int]] = {}
    for layer in merge.exact.layers:
        counts = tokens.setdefault(layer.stack, [])
        counts.extend([0] * (len(layer.ranks) - len(counts)))
        for rank, count in enumerate(layer.ranks):
            counts[rank] += count
    tokens = {stack: counts for stack, counts in tokens.items() if any(counts)}
    figure = Figure(figsize=(9, 0.5 + 1.5 * len(tokens)), layout="constrained")
    panels = figure.subplots(len(tokens), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (stack, counts) in zip(panels, tokens.items(), strict=True):
        axes.bar(range(len(counts)), [count / sum(counts) for count in counts], color=_BLUE, width=0.9)
        axes.set_title(stack, loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("directions used")
    figure.supylabel("share of tokens", fontsize=10)
    figure.savefig(path, dpi=130)
