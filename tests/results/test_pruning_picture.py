"""Success against how much is gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from results.pruning_picture import Panel, compose, draw
from tests.results.pruned_rows import pruned_row

PANELS = [Panel("layers", task, task, "layers removed") for task in ("lift", "reach")]
WHOLE = pruned_row("whole", (), module="none", asked=0.0, fraction=0.0)


def lines(figure: Figure) -> dict[str, list[tuple[float, float]]]:
    """Of the first panel, by label: where they go."""
    drawn = figure.axes[0].get_lines()
    return {
        str(line.get_label()): list(zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True))
        for line in drawn
        if not str(line.get_label()).startswith("_")
    }


def test_a_line_for_every_method_and_training_from_the_whole_policy_on() -> None:
    rows = [
        WHOLE,
        pruned_row("cka", tuple(range(10)), fraction=0.375),
        pruned_row("cka", tuple(range(20)), fraction=0.5),
        pruned_row("cka", (0,), fraction=0.375, finetuned=300),
        pruned_row("gate", (), fraction=0.375, task="reach"),
    ]
    figure = compose(rows, "Layers", PANELS)
    found = lines(figure)
    assert set(found) == {"cka, as cut", "cka, finetuned"}
    assert [rate for _, rate in found["cka, as cut"]] == [1.0, 0.5, 0.0]
    assert [fraction for fraction, _ in found["cka, as cut"]] == pytest.approx([0.0, 0.375, 0.5], abs=0.01)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["cka, as cut", "cka, finetuned", "gate, as cut"]
    styles = {str(line.get_label()): line.get_linestyle() for line in figure.axes[0].get_lines()}
    assert (styles["cka, as cut"], styles["cka, finetuned"]) == ("--", "-")


def test_the_line_of_chance_is_the_mean_of_its_draws() -> None:
    rows = [WHOLE, pruned_row("random", (), draw=0), pruned_row("random", tuple(range(10)), draw=1)]
    assert [rate for _, rate in lines(compose(rows, "Layers", PANELS))["random, as cut"]] == [1.0, 0.75]


def test_bars_are_the_intervals() -> None:
    row = pruned_row("cka", tuple(range(10)))
    (bars,) = (
        found.lines
        for found in compose([row], "Layers", PANELS).axes[0].containers
        if isinstance(found, ErrorbarContainer) and np.size(found.lines[0].get_xdata())
    )
    ((low, high),) = [segment[:, 1] for segment in bars[2][0].get_segments()]
    assert (low, high) == pytest.approx((row.success.low, row.success.high))


def test_a_run_that_was_stopped_early_is_drawn(tmp_path: Path) -> None:
    draw([WHOLE], "Layers", PANELS, tmp_path / "picture.png")
    assert [found.name for found in tmp_path.iterdir()] == ["picture.png"]
