"""Merging a small trained adapter, from its release's files to figures and picture."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from results import mean_scores, merges
from results.action_error import ActionError
from results.adapters import lora_sp, release_files
from results.adapters.lora_sp import LoRASPSettings
from results.kept_exact import kinds
from results.lerobot_files import write
from results.mean_scores import mean_scores_checkpoint
from results.merges import EXACT, MEAN_SCORES, WHOLE, WITHOUT
from results.merging import MergeRow, comparisons
from results.merging_picture import draw
from results.row import Success
from tests.results.test_observations import random_moments
from tests.results.toy_adapters import LINEARS, STATISTICS, toy, train, write_toy
from vla_export.adapters.merge import MergeReport
from vla_export.checkpoints.reading import read
from vla_export.preparation import prepare
from vla_export.progress import StageProgress
from vla_export.request import parse_request
from vla_runtime.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Trained:
    """A checkpoint, an adapter that was trained on it, and a recording."""

    checkpoint: Path
    adapter: Path
    recording: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    model = toy()
    checkpoint = write_toy(root / "policy", model)
    lora_sp.wrap(model, LoRASPSettings(), torch.Generator().manual_seed(0))
    train(model, lora_sp.extra_loss, steps=10, rate=0.03)
    adapter = release_files.write(root / "adapter", model, STATISTICS, 10)
    write(root / "recording", [random_moments(f"reach the {cube} cube", 3, n) for n, cube in enumerate(_CUBES * 2)])
    return Trained(checkpoint, adapter, root / "recording")


_CUBES = ("red", "green", "blue")


def merged(trained: Trained, mode: str, budget: float | None = None) -> MergeReport:
    request = parse_request(
        trained.checkpoint,
        adapter=trained.adapter,
        merge=mode,
        error_budget=budget,
        calibration=trained.recording,
    )
    with StageProgress(quiet=True) as progress, ExitStack() as ending:
        report = prepare(request, progress, ending).merge
    assert report is not None
    return report


def test_a_policy_of_mean_scores_is_whole_and_kept(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mean_scores, "OUT", tmp_path)
    made = mean_scores_checkpoint("toy", trained.checkpoint, trained.adapter, trained.recording)
    before, after = (load_file(root / "model.safetensors") for root in (trained.checkpoint, made))
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    # Nothing reads what the last language layer's down_proj gives, so training has left its B at zero.
    assert len(changed) == LINEARS - 1
    assert all(name.endswith("proj.weight") for name in changed)
    assert read(made).interface == read(trained.checkpoint).interface
    written = (made / "model.safetensors").stat().st_mtime_ns
    assert mean_scores_checkpoint("toy", trained.checkpoint, trained.adapter, trained.recording) == made
    assert (made / "model.safetensors").stat().st_mtime_ns == written


def test_what_merging_loses_by_kind_of_linear(trained: Trained) -> None:
    reports = {budget: merged(trained, "auto", budget) for budget in (1e-9, 1e3)}
    found = kinds(reports)
    assert sum(kind.linears for kind in found) == LINEARS
    assert len(found) == 14
    assert [kind.lost for kind in found] == sorted((kind.lost for kind in found), reverse=True)
    static = reports[1e-9].static
    assert static is not None
    for kind in found:
        of_it = [layer for layer in static.layers if (layer.stack, layer.kind) == (kind.stack, kind.kind)]
        assert kind.share == pytest.approx(sum(layer.share for layer in of_it) / len(of_it))
        assert kind.alone == static.alone[f"{kind.stack} {kind.kind}"]
        assert kind.exact["1000"] == 0
    assert max(kind.exact["1e-09"] for kind in found) > 0


def test_a_merge_that_was_not_chosen_tells_of_none(trained: Trained) -> None:
    with pytest.raises(BadInput, match="nothing of the adapter was to be merged, as asked for"):
        kinds({0.01: merged(trained, "exact")})


def test_every_way_to_merge_is_another_recipe(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merges, "calibration", lambda tasks, shifted: tmp_path / "-".join((*tasks, str(shifted))))
    monkeypatch.setattr(merges, "mean_scores_checkpoint", lambda *of: tmp_path / "scores")
    ways = merges.merges("lora_sp", trained.adapter)
    assert (ways[0].name, ways[-1].name) == (EXACT, WITHOUT)
    recipes = [way.recipe for way in ways]
    assert len({recipe.name for recipe in recipes}) == len({(recipe.checkpoint, recipe.flags) for recipe in recipes})
    assert [way.budget for way in ways if way.budget] == list(merges.BUDGETS)
    assert {way.name for way in ways if not way.reported} == {MEAN_SCORES, WITHOUT}
    assert "--calibration" not in ways[0].recipe.flags  # no bank is cut by what was never recorded


def row(method: str, task: str, merge: str, error: float | None, *failed: int) -> MergeRow:
    succeeded = {seed: seed not in failed for seed in range(10)}
    return MergeRow(
        study="merging",
        bundle=merge,
        baseline=EXACT,
        task=task,
        condition="side camera",
        success=Success.counted(succeeded),
        action_error=None if error is None else ActionError(error, error, error, error),
        method=method,
        merge=merge,
        budget=None,
        exact=0,
        linears=3,
        latency=(1.0, 0.9, 1.1),
    )


def test_merges_are_compared_on_the_same_seeds() -> None:
    rows = [
        row("lora_sp", "lift", EXACT, None, 0),
        row("lora_sp", "lift", WHOLE, 0.1, 0, 1),
        row("lora_sp", "lift", MEAN_SCORES, 0.2, 1, 2, 3),
    ]
    found = {(entry.merge, entry.against): entry.difference for entry in comparisons(rows)}
    assert found.keys() == {(WHOLE, EXACT), (MEAN_SCORES, EXACT), (WHOLE, MEAN_SCORES)}
    assert (found[WHOLE, EXACT].first_only, found[WHOLE, EXACT].second_only) == (0, 1)
    assert (found[WHOLE, MEAN_SCORES].first_only, found[WHOLE, MEAN_SCORES].second_only) == (2, 1)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rows = [
        row(method, task, merge, error, 0)
        for method in ("lora_sp", "vla_gse")
        for task in ("lift", "reach")
        for merge, error in ((EXACT, None), (WHOLE, 0.1))
    ]
    draw(rows, {row.method: "An adapter" for row in rows}, tmp_path / "pictures" / "merging.png")
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["merging.png"]
