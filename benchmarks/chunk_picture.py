"""A picture of chunk borders: the same chunks followed in several ways, and what each strategy comes to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.chunk_rollout import Rollout
from benchmarks.chunk_strategies import Strategy
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.chunks.schedule import Schedule

_COLOURS = ("#8a8f98", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_RATE = 1000.0  # [Hz], of the curves
_BEFORE, _AFTER = 0.15, 0.35  # [s], around the border that is drawn


class Figures(Protocol):
    """What the bars show of one strategy under one latency."""

    @property
    def strategy(self) -> str: ...
    @property
    def latency(self) -> float: ...
    @property
    def off(self) -> float: ...
    @property
    def jerk_rms(self) -> float: ...


def draw(rows: Sequence[Figures], strategies: Sequence[Strategy], example: Rollout, path: Path) -> None:
    """Write the picture.

    example: its border where the chunks disagree most is drawn as each strategy that needs nothing of the policy would
    follow its chunks.
    """
    figure = Figure(figsize=(12.5, 8.5), layout="constrained")
    (position, velocity), (jerk, off) = figure.subplots(2, 2)
    colours = dict(zip((strategy.name for strategy in strategies), _COLOURS, strict=True))
    _draw_border(position, velocity, [one for one in strategies if one.rtc is None], colours, example)
    _draw_bars(jerk, rows, colours, [row.jerk_rms for row in rows], "jerk of the targets at borders, rms [rad/s³]")
    _draw_bars(off, rows, colours, [row.off for row in rows], "new chunk off what was asked, 95th percentile [rad]")
    jerk.set_yscale("log")
    handles, labels = jerk.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=len(labels))
    figure.savefig(path, dpi=110)


def _draw_border(
    position: Axes, velocity: Axes, strategies: Sequence[Strategy], colours: dict[str, str], example: Rollout
) -> None:
    at = max(example.borders, key=lambda border: border.off).at
    times = np.arange(at - _BEFORE, at + _AFTER, 1 / _RATE)
    joint = _most_disputed(example, at)
    for _, chunk in example.chunks:
        if chunk.stamp <= at < chunk.stamp + chunk.times[-1]:
            due = chunk.stamp + chunk.times
            shown = (due > times[0]) & (due < times[-1])
            position.plot(1e3 * (due[shown] - at), chunk.positions[shown, joint], ".", color="#6b717b", markersize=5)
    for strategy in strategies:
        targets = _followed(strategy, example, times)[:, joint]
        colour = colours[strategy.name]
        position.plot(1e3 * (times - at), targets, color=colour, linewidth=1.6)
        velocity.plot(1e3 * (times[1:] - at), np.diff(targets) * _RATE, color=colour, linewidth=1.6)
    calm = np.diff(_followed(strategies[-1], example, times)[:, joint]) * _RATE
    span = max(1.0, 4 * float(np.abs(calm).max()))
    velocity.set_ylim(-span, span)
    position.set_title(f"{JOINT_NAMES[joint]} asked, the same chunks (dots: their actions) [rad]", fontsize=10)
    velocity.set_title("its velocity [rad/s]", fontsize=10)
    for axes in (position, velocity):
        axes.axvline(0.0, color="#1c2430", linewidth=0.7, linestyle=":")
        axes.set_xlabel("time since the chunk came [ms]")
        axes.grid(alpha=0.25)


def _most_disputed(example: Rollout, at: float) -> int:
    """The joint that the chunk which came at ``at`` asks to be farthest from what the one before asks."""
    index = next(index for index, (came, _) in enumerate(example.chunks) if came == at)
    former, newer = (Schedule(chunk).position(at) for _, chunk in example.chunks[index - 1 : index + 1])
    return int(np.argmax(np.abs(newer - former)[:6]))


def _followed(strategy: Strategy, example: Rollout, times: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the strategy asks at ``times`` where these chunks come. Shape (n, 7)."""
    executor = ChunkExecutor(max_age=np.inf, takeover=strategy.takeover)
    waiting = list(example.chunks)
    targets = []
    for now in times:
        while waiting and waiting[0][0] <= now:
            came, chunk = waiting.pop(0)
            executor.offer(chunk, came)
        target = executor.target(now)
        targets.append(np.full(7, np.nan) if target is None else target)
    return np.array(targets)


def _draw_bars(
    axes: Axes, rows: Sequence[Figures], colours: dict[str, str], values: Sequence[float], title: str
) -> None:
    latencies = sorted({row.latency for row in rows})
    width = 0.8 / len(colours)
    for n, (name, colour) in enumerate(colours.items()):
        chosen = [
            (latencies.index(row.latency), value)
            for row, value in zip(rows, values, strict=True)
            if row.strategy == name
        ]
        places = [place + (n - (len(colours) - 1) / 2) * width for place, _ in chosen]
        axes.bar(places, [value for _, value in chosen], width, color=colour, label=name)
    axes.set_xticks(range(len(latencies)), [f"{1e3 * latency:.0f} ms" for latency in latencies])
    axes.set_xlabel("injected latency")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
