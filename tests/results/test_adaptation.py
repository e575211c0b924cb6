"""The study of adaptation: which rows are compared, what the training's log tells, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results import adaptation, adaptation_picture
from results.adapt import METHODS
from results.adaptation import BASE, CONDITIONS, AdaptationRow, Training, comparisons, recipe, training
from results.places import POLICY
from results.row import Success
from results.setting import CONDITION, SHIFT, TASKS

SUCCEED = {BASE: 1, "lora_sp": 8, "vla_gse": 7, "lora": 7}
OF = 10


@pytest.fixture
def rows() -> list[AdaptationRow]:
    return [
        AdaptationRow(
            study="adaptation",
            bundle=f"{method}-exact",
            baseline="original",
            task=task,
            condition=condition.name,
            success=Success.counted({seed: seed < SUCCEED[method] for seed in range(OF)}),
            method=method,
        )
        for method in SUCCEED
        for condition in CONDITIONS
        for task in TASKS
    ]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Training:
    log = [
        {"step": 20, "rate": 1e-3, "flow": 0.2, "active_language": 30.0, "active_expert": 29.0},
        {"step": 25, "own_rad": 0.1},
        {"step": 40, "rate": 5e-4, "flow": 0.1, "active_language": 20.0, "active_expert": 21.0},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    monkeypatch.setattr(adaptation, "release_directory", lambda name: tmp_path)
    return training("lora_sp")


def test_the_shifted_setting_is_a_condition_of_its_own() -> None:
    assert CONDITION.perturbation.side_camera == SHIFT > 0
    assert (CONDITION.latency, CONDITION.dropped) == (0.0, 0.0)


def test_adapters_are_compared_with_the_base_and_with_lora(rows: list[AdaptationRow]) -> None:
    found = list(comparisons(rows))
    pairs = {(one.first, one.second) for one in found}
    assert pairs == {(m, BASE) for m in METHODS} | {("lora_sp", "lora"), ("vla_gse", "lora")}
    assert len(found) == len(pairs) * len(TASKS) * len(CONDITIONS)
    for one in found:
        expected = (SUCCEED[one.first] - SUCCEED[one.second]) / OF
        assert one.success.difference == pytest.approx(expected)


def test_a_log_tells_how_many_directions_were_used(trained: Training) -> None:
    assert trained.steps == 40
    assert trained.highest_rate == 1e-3
    assert trained.active == {"language": {20: 30.0, 40: 20.0}, "expert": {20: 29.0, 40: 21.0}}
    assert trained.flow == {20: 0.2, 40: 0.1}
    assert trained.directions == 32
    assert trained.head == 0


def test_the_methods_train_about_as_many_parameters_beside_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.jsonl").write_text(
        json.dumps({"step": 1, "rate": 1e-3, "flow": 1.0, "active_language": 1.0, "active_expert": 1.0}) + "\n"
    )
    monkeypatch.setattr(adaptation, "release_directory", lambda name: tmp_path)
    counts = [found.parameters - found.head for found in map(training, METHODS)]
    assert max(counts) < 1.05 * min(counts)


def test_an_adapter_is_kept_exact() -> None:
    made = recipe("lora_sp", Path("somewhere"))
    assert made.checkpoint == POLICY
    assert made.flags == ("--adapter", "somewhere", "--merge", "exact")


def test_the_picture(rows: list[AdaptationRow], trained: Training, tmp_path: Path) -> None:
    adaptation_picture.draw(rows, [trained], tmp_path / "pictures" / "one.png")
    assert (tmp_path / "pictures" / "one.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["one.png"]
