"""A picture of adaptation: who succeeds where, and how many directions a token uses as training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from results.row import Success

_COLOURS = {"base": "#8a8f98", "lora_sp": "#0072b2", "vla_gse": "#d55e00", "lora": "#009e73"}
_STYLES = {"language": "-", "expert": "--"}
_WIDTH = 0.8  # of the bars of one group


class Judged(Protocol):
    """One method on one task under one condition."""

    @property
    def method(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def condition(self) -> str: ...
    @property
    def success(self) -> Success: ...


class Trained(Protocol):
    """How one method's training went."""

    @property
    def method(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def directions(self) -> int: ...
    @property
    def active(self) -> Mapping[str, Mapping[int, float]]: ...


def draw(rows: Sequence[Judged], trained: Sequence[Trained], path: Path) -> None:
    """Write the picture; success has its Wilson 95 % interval."""
    figure = Figure(figsize=(11.5, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_success(left, rows, {training.method: training.title for training in trained})
    _draw_active(right, trained)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, dpi=110, format="png")
    partial.replace(path)


def _draw_success(axes: Axes, rows: Sequence[Judged], titles: Mapping[str, str]) -> None:
    methods = list(dict.fromkeys(row.method for row in rows))
    groups = list(dict.fromkeys((row.task, row.condition) for row in rows))
    for n, method in enumerate(methods):
        own = {(row.task, row.condition): row.success for row in rows if row.method == method}
        found = [own[group] for group in groups]
        axes.bar(
            [place + _WIDTH * ((n + 0.5) / len(methods) - 0.5) for place in range(len(groups))],
            [success.rate for success in found],
            _WIDTH / len(methods) * 0.92,
            yerr=[[s.rate - s.low for s in found], [s.high - s.rate for s in found]],
            color=_COLOURS[method],
            ecolor="0.2",
            capsize=2,
            error_kw={"linewidth": 0.9},
            label=titles.get(method, method),
        )
    axes.set_xticks(range(len(groups)), [f"{task}\n{condition}" for task, condition in groups])
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("success")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(methods), frameon=False, fontsize=9)


def _draw_active(axes: Axes, trained: Sequence[Trained]) -> None:
    for training in trained:
        for stack, by_step in training.active.items():
            axes.plot(
                list(by_step),
                [active / training.directions for active in by_step.values()],
                _STYLES[stack],
                color=_COLOURS[training.method],
                linewidth=1.3,
                label=f"{training.title}, {stack}",
            )
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("training step")
    axes.set_ylabel("directions a token uses, share of all")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
