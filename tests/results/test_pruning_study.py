"""Smaller policies one after another, with everything that takes time replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from results import figures, pruning_study
from results.action_error import ActionError
from results.arguments import Arguments
from results.chosen_layers import random_layers
from results.chosen_structure import Cut, whole
from results.places import POLICY
from results.pruned_row import PrunedRow
from results.pruning_picture import Panel
from results.pruning_study import Study, Trial, carry_out, show
from results.recipes import Recipe
from results.success import Score
from vla_evaluation.intervals import wilson
from vla_export.checkpoints.reading import read

EPISODES = 4


class Laboratory:
    """Stands in for training, exporting and running; what was asked of it, in order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.asked: list[str] = []
        self.published: list[dict[str, Any]] = []

    def checkpoint(self, cut: Cut) -> Path:
        return self.directory / cut.name

    def bundle(self, name: str) -> Path:
        bundle = self.directory / "bundles" / name
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / "manifest.json").write_text(name)
        return bundle

    def export_all(self, recipes: Sequence[Recipe], workers: int) -> dict[str, Path]:
        assert len({recipe.name for recipe in recipes}) == len(recipes)
        return {recipe.name: self.bundle(recipe.name) for recipe in recipes}

    def success(self, bundle: Path, task: str, episodes: int, workers: int) -> Score:
        self.asked.append(f"{bundle.name}, {task}")
        failed = 0 if bundle.name == "original" else 1
        by_seed = {seed: seed >= failed for seed in range(episodes)}
        return Score(task, "nominal", wilson(episodes - failed, episodes), by_seed, None, None)

    def write(self, study: str, content: dict[str, Any]) -> None:
        self.published.append(content)


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laboratory:
    found = Laboratory(tmp_path)
    original = Recipe("original", POLICY)
    monkeypatch.setattr(Recipe, "bundle", property(lambda recipe: found.bundle(recipe.name)))
    monkeypatch.setattr(pruning_study, "ORIGINAL", original)
    monkeypatch.setattr(pruning_study, "OUT", tmp_path / "out")
    monkeypatch.setattr(pruning_study, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(pruning_study, "pruned_checkpoint", found.checkpoint)
    monkeypatch.setattr(pruning_study, "export", lambda recipe: found.bundle(recipe.name))
    monkeypatch.setattr(pruning_study, "export_all", found.export_all)
    monkeypatch.setattr(pruning_study, "ratio", lambda bundle, original, rounds: (0.7, 0.6, 0.8))
    monkeypatch.setattr(pruning_study, "held_out", lambda tasks, shifted: ())
    monkeypatch.setattr(pruning_study, "action_error", lambda *_: ActionError(0.01, 0.2, 0.1, 0.02))
    monkeypatch.setattr(pruning_study, "success", found.success)
    monkeypatch.setattr(figures, "write", found.write)
    return found


@pytest.fixture(scope="module")
def study() -> Study:
    model = read(POLICY).model
    by_chance = random_layers(model, 0.17, 0)
    chosen = Cut(**(vars(by_chance) | {"method": "cka", "draw": None}))
    other = random_layers(model, 0.17, 1)
    return Study(
        name="depth",
        title="Layers",
        tiers=[[Trial(whole(model)), Trial(chosen), Trial(by_chance)], [Trial(other)]],
        rivals=[("cka", "random")],
        panels=[Panel("layers", task, task, "layers removed") for task in ("lift", "reach")],
    )


def test_trials_of_the_same_policy_are_measured_once(laboratory: Laboratory, study: Study) -> None:
    rows = carry_out(study, Arguments(EPISODES, 1, quick=True))
    assert len(rows) == 8
    first, other = study.tiers[0][1].name, study.tiers[1][0].name
    assert laboratory.asked == [f"{name}, {task}" for name in ("original", first, other) for task in ("lift", "reach")]
    chosen, by_chance = ([row for row in rows if row.chooser == chooser] for chooser in ("cka", "random 0"))
    assert [row.success for row in chosen] == [row.success for row in by_chance]
    assert {row.baseline for row in rows} == {"original"}
    assert (
        [row.latency is None for row in rows] == [row.action_error is None for row in rows] == [True] * 2 + [False] * 6
    )


def test_what_is_complete_is_kept(laboratory: Laboratory, study: Study) -> None:
    arguments = Arguments(EPISODES, 1, quick=True)
    rows = carry_out(study, arguments)
    laboratory.asked.clear()
    assert carry_out(study, arguments) == rows
    assert not laboratory.asked
    more = carry_out(study, Arguments(EPISODES + 1, 1, quick=True))
    assert {row.success.of for row in more} == {EPISODES + 1}


def test_a_quick_run_publishes_nothing_and_another_one_every_policy(laboratory: Laboratory, study: Study) -> None:
    carry_out(study, Arguments(EPISODES, 1, quick=True))
    assert not laboratory.published
    assert not (laboratory.directory / "pictures").exists()
    carry_out(study, Arguments(EPISODES, 1, quick=False))
    assert [len(content["rows"]) for content in laboratory.published] == [2, 4, 6, 8]
    assert (laboratory.directory / "pictures" / "results_depth.png").is_file()
    last = laboratory.published[-1]
    assert (last["episodes"], last["finetuning_steps"]) == (EPISODES, 0)
    assert {(found.first, found.second) for found in last["comparisons"]} == {
        ("cka, as cut", "random 0, as cut"),
        ("cka, as cut", "random 1, as cut"),
    }


def test_the_table_has_a_line_for_each_policy(
    laboratory: Laboratory, study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    rows: list[PrunedRow] = carry_out(study, Arguments(EPISODES, 1, quick=True))
    show(study, rows)
    printed = capsys.readouterr().out
    for row in rows:
        assert row.chooser in printed
        assert row.success.text() in printed
    assert "0.70 (0.60–0.80)" in printed
