"""Figures survive the disk, and name no place on the machine they were made on; a study's command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from results import figures
from results.arguments import QUICK_EPISODES, Arguments, arguments
from results.places import ROOT
from results.row import Success
from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class Point:
    name: str
    at: tuple[float, float]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "results")
    return tmp_path / "results"


def test_what_is_written_is_read(directory: Path) -> None:
    counted = Success.counted({0: True, 1: False})
    path = figures.write("width", {"rows": [Point("a", (0.5, 1.0))], "best": counted})
    assert path == directory / "width.json"
    found = figures.read("width")
    assert found["rows"] == [{"name": "a", "at": [0.5, 1.0]}]
    assert Success.model_validate(found["best"]) == counted
    assert found["machine"]["packages"]["numpy"]
    assert found["machine"]["cores"] >= 1


def test_the_same_figures_are_the_same_bytes() -> None:
    first = figures.write("width", {"x": 1}).read_bytes()
    assert figures.write("width", {"x": 1}).read_bytes() == first


@pytest.mark.parametrize("content", [{"x": float("nan")}, {"x": f"{ROOT}/out"}, {"x": {1, 2}.__iter__()}])
def test_what_has_no_place_among_figures_leaves_the_old_ones(content: dict[str, object]) -> None:
    before = figures.write("width", {"x": 1}).read_bytes()
    with pytest.raises((ValueError, TypeError)):
        figures.write("width", content)
    assert (figures.FIGURES / "width.json").read_bytes() == before


def test_a_study_that_was_not_made(directory: Path) -> None:
    with pytest.raises(BadInput, match=r"no figures of depth: make them with python -m results.depth"):
        figures.read("depth")


def test_a_studys_arguments() -> None:
    assert arguments("depth", "…", []) == Arguments(100, 2, False)
    assert arguments("depth", "…", ["--quick"]) == Arguments(QUICK_EPISODES, 2, True)
    assert arguments("depth", "…", ["--quick", "--episodes", "7", "--workers", "1"]) == Arguments(7, 1, True)
    for wrong in (["--episodes", "0"], ["--workers", "-1"], ["--seeds", "3"]):
        with pytest.raises(BadInput, match="python -m results.depth --help"):
            arguments("depth", "…", wrong)
