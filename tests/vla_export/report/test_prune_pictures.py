"""The pictures show what they are to show, in the colours that mean it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from tests.vla_export.report.prune_reports import pruned
from vla_export.prune.auto import AutoReport
from vla_export.prune.depth import GroupDepth, ProbedDepth
from vla_export.prune.search import Point, SearchResult
from vla_export.report.prune_pictures import (
    Units,
    draw_cka,
    draw_front,
    draw_sensitivities,
    draw_similarities,
    draw_units,
)

RED, BLUE, LIGHT, GREY = (to_rgb(colour) for colour in ("#c8553d", "#3d6fa5", "0.87", "0.72"))


def area(draw: Callable[[Path], None], colour: tuple[float, ...], path: Path) -> int:
    """How many pixels of a colour a picture has."""
    draw(path)
    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - np.asarray(colour)) < 0.01).all(-1).sum())


def searched(*errors: float, cost: Callable[[int], float] = lambda n: 1.0 - 0.08 * n) -> AutoReport:
    """One knob, whose notches err so much; the last is picked."""
    points = tuple(Point(plan={"layers": n}, cost=cost(n), error=error) for n, error in enumerate((0.0, *errors)))
    found = SearchResult(target=points[-1].cost + 0.03, tried=points, front=points, pick=points[-1])
    return AutoReport(step="auto:0.6", measure="flops", base=None, search=found, stacks=())


def test_what_is_kept_is_blue_and_what_went_is_grey(tmp_path: Path) -> None:
    whole = [Units("language.mlp", (0, 1, 2), (64, 64, 64), (64, 64, 64))]
    halved = [Units("language.mlp", (0, 1, 2), (64, 64, 64), (32, 32, 32))]

    def blue(units: list[Units]) -> int:
        return area(partial(draw_units, units), BLUE, tmp_path / "units.png")

    def grey(units: list[Units]) -> int:
        return area(partial(draw_units, units), LIGHT, tmp_path / "units.png")

    legend = blue([Units("language.mlp", (0, 1, 2), (64, 64, 64), (0, 0, 0))])
    assert (blue(halved) - legend) / (blue(whole) - legend) == pytest.approx(0.5, abs=0.02)
    assert grey(halved) - grey(whole) == pytest.approx(blue(whole) - blue(halved), rel=0.02)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_module_has_its_panel(count: int, tmp_path: Path) -> None:
    modules = [Units(f"stack{n}.heads", (0, 3), (8, 8), (5, 8)) for n in range(count)]
    one = area(partial(draw_units, modules[:1]), BLUE, tmp_path / "one.png")
    assert one > 0
    height = imread(tmp_path / "one.png").shape[0]
    draw_units(modules, tmp_path / "all.png")
    assert (imread(tmp_path / "all.png").shape[0] > height) == (count > 2)


@pytest.mark.parametrize(
    "errors",
    [(0.05, 0.1, 0.2, 0.3), (1e-6, 0.001, 0.02, 0.5), (0.3, 0.01, 0.0), (0.2,), (0.0, 0.0)],
    ids=["linear", "logarithmic", "a pick without error", "one", "no error at all"],
)
def test_the_pick_is_marked_on_the_front(errors: tuple[float, ...], tmp_path: Path) -> None:
    auto, path = searched(*errors), tmp_path / "front.png"
    assert area(partial(draw_front, auto), RED, path) > 200  # a dot, its label and the legend's
    assert area(partial(draw_front, auto), BLUE, path) > 200


def test_plans_off_the_front_are_grey(tmp_path: Path) -> None:
    path = tmp_path / "front.png"
    alone = searched(0.05, 0.1, 0.2, 0.3)
    worse = tuple(Point(plan={"layers": 9}, cost=0.9 - 0.02 * n, error=0.25) for n in range(5))
    found = alone.search.model_copy(update={"tried": (*alone.search.tried, *worse)})
    among = alone.model_copy(update={"search": found})
    grey = [area(partial(draw_front, auto), GREY, path) for auto in (alone, among)]
    assert grey[1] > grey[0] + 5 * 10


def test_removed_layers_are_red_whoever_chose_them(tmp_path: Path) -> None:
    by_cka, by_gate = pruned("cka:0.5").depth, pruned("gate:0.3").depth
    assert by_cka is not None
    assert by_gate is not None
    (alike,), (probed,) = by_cka.groups, by_gate.groups
    assert isinstance(alike, GroupDepth)
    assert isinstance(probed, ProbedDepth)
    kept = {"removed": (), "reduced": ()}
    whole, silent = alike.model_copy(update=kept), probed.model_copy(update=kept)
    for drawn, nothing in (
        (partial(draw_cka, alike), partial(draw_cka, whole)),
        (partial(draw_similarities, alike), partial(draw_similarities, whole)),
        (partial(draw_sensitivities, probed), partial(draw_sensitivities, silent)),
    ):
        assert area(drawn, RED, tmp_path / "removed.png") > 0
        assert area(nothing, RED, tmp_path / "kept.png") == 0
