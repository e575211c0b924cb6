"""The report of an evaluation whose outcomes are made up."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import numpy as np

from tests.vla_evaluation.outcomes import outcome
from vla_evaluation.figures import difference, rate, value
from vla_evaluation.film_strip import write_film_strip
from vla_evaluation.intervals import paired_difference, wilson
from vla_evaluation.laboratory import strip_path
from vla_evaluation.report import write_report
from vla_evaluation.request import Request
from vla_evaluation.summary import summarise

FRAMES = [{"side": np.zeros((8, 8, 3), np.uint8)}]


def write(directory: Path, *, against: bool = False, interventions: dict[str, int] | None = None) -> str:
    bundles = ("bundle", "against") if against else ("bundle",)
    outcomes = [
        outcome(seed, success=seed > 0 or bundle == "against", bundle=bundle, interventions=interventions)
        for seed in range(4)
        for bundle in bundles
    ]
    request = Request(Path("mine"), Path("theirs") if against else None, "reach", 4, 0, "can", None, False)
    page = write_report(directory, request, summarise(outcomes, ["nominal"], bundles), outcomes)
    return unescape(page.read_text(encoding="utf-8"))


def test_rates_failures_and_strips(tmp_path: Path) -> None:
    write_film_strip(FRAMES, strip_path(tmp_path, "bundle-nominal-0"))
    page = write(tmp_path)
    assert rate(wilson(3, 4)) in page
    assert "1 of 4 episodes; film strips of 1" in page
    assert "seed 0: “reach the red cube”" in page
    assert (tmp_path / "report" / "pictures" / "bundle-nominal-0.png").is_file()
    assert "Comparison" not in page
    assert "Safety" not in page


def test_the_comparison(tmp_path: Path) -> None:
    page = write(tmp_path, against=True)
    assert difference(paired_difference(3, 0, 1, 0)) in page
    assert "bundle is mine, against is theirs" in page


def test_interventions_and_their_absence(tmp_path: Path) -> None:
    assert "velocity limit" in write(tmp_path, interventions={"velocity_limit": 2})
    assert "nothing to do" in write(tmp_path, interventions={})


def test_a_new_report_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "report" / "stale.txt").touch()
    write(tmp_path)
    assert sorted(entry.name for entry in (tmp_path / "report").iterdir()) == ["index.html", "pictures"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []


def test_figures_as_people_read_them() -> None:
    assert rate(wilson(10, 10)) == "100.0% (72.2–100.0)"
    assert difference(paired_difference(36, 2, 12, 0)) == "−20.0 points (−34.0 to −5.7)"
    assert value(None, "s") == "–"
    assert value(1.23456, "s") == "1.23 s"
