"""Pruning from the command line: what is removed, what that is measured on, and what is left to go on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export import cli
from vla_export.checkpoints.reading import read
from vla_export.prune.pruned_checkpoint import read_structure
from vla_runtime.bundle.bundle import Bundle, sha256

PLAIN = Path(__file__).parents[1] / "oracles" / "goldens" / "pi0"


@pytest.fixture
def checkpoint(tmp_path: Path, private_state: Path) -> Path:
    return Path(shutil.copytree(PLAIN, tmp_path / "checkpoint"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """What the policy was trained from: its own vision-language model, with every weight a little different."""
    return write_base(tmp_path / "vlm", moved(vlm_tensors(read(PLAIN).model, "pi0"), 0.1))


def report(checkpoint: Path, bundle: str = "bundle") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint / bundle / "report" / "report.json").read_text(encoding="utf-8"))
    return found


def graphs(bundle: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(bundle.glob("*.onnx*"))}


def test_channels_and_heads_go_by_their_distance_from_the_base(
    checkpoint: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without ``--base`` there is nothing to compare with; with it the graphs are smaller, and the report says why."""
    spec = ["--prune", "divergence:language.heads=0.5,vision.heads=0.5"]
    assert cli.main([str(checkpoint), *spec]) == 2
    budget = ["--error-budget", "1e-6", "--force"]
    assert cli.main([str(checkpoint), *spec, "--base", str(base), *budget]) == 0
    assert "Beyond the error budget" in capsys.readouterr().out
    prune = report(checkpoint)["prune"]
    before, after = prune["modules_before"], prune["modules_after"]
    for module in ("language.attention", "vision.attention"):
        assert after[module]["parameters"] < before[module]["parameters"]
    assert after["expert.attention"] == before["expert.attention"]
    assert [module["module"] for module in prune["width"]["modules"]] == ["language.heads", "vision.heads"]
    assert report(checkpoint)["latency"]["rounds"] >= 3
    assert prune["effect"]["relative_error"] > 0
    assert next(stage.name for stage in Bundle.open(checkpoint / "bundle").manifest.provenance.stages) == "prune"
    page = (checkpoint / "bundle" / "report" / "index.html").read_text(encoding="utf-8")
    assert "finetun" in page
    assert "vision.heads" in page


def test_the_pruned_checkpoint_exports_to_the_same_bytes(checkpoint: Path, base: Path, tmp_path: Path) -> None:
    flags = ["--prune", "gate-kv:0.3,divergence:language.heads=0.5", "--base", str(base)]
    pruned = tmp_path / "pruned"
    assert cli.main([str(checkpoint), *flags, "--save-pruned", str(pruned)]) == 0
    found = read_structure(pruned)
    assert found is not None
    assert found.checkpoint == "checkpoint"
    assert any(layer.memory for layer in found.structure.stacks["language"])
    assert cli.main([str(pruned)]) == 0
    assert graphs(pruned / "bundle") == graphs(checkpoint / "bundle")


def test_a_search_reports_its_front_and_keeps_what_it_tried(
    checkpoint: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = checkpoint / "bundle.search.json"
    assert cli.main([str(checkpoint), "--prune", "auto:0.8", "--base", str(base)]) == 0
    auto = report(checkpoint)["prune"]["auto"]
    assert auto["search"]["pick"]["cost"] <= 0.8
    assert len(auto["search"]["front"]) > 1
    assert auto["base"] == base.name
    assert (checkpoint / "bundle" / "report" / "pictures" / "front.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(state.read_text())["tried"]) == len(auto["search"]["tried"])

    shutil.rmtree(checkpoint / "bundle")
    capsys.readouterr()
    assert cli.main([str(checkpoint), "--prune", "auto:0.7,depth=cka", "--base", str(base)]) == 2
    assert "state of another search" in capsys.readouterr().err
    assert state.is_file()


def test_beyond_the_error_budget_nothing_is_written_unless_forced(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = tmp_path / "pruned"
    flags = [str(checkpoint), "--prune", "cka:0.5", "--error-budget", "1e-6", "--save-pruned", str(pruned)]
    assert cli.main(flags) == 1
    assert "--prune cka:0.5 moves" in capsys.readouterr().err
    assert not (checkpoint / "bundle").exists()
    assert not pruned.exists()
    assert not [path for path in checkpoint.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--base", "vlm"], "--base is about removing channels and heads"),
        (["--prune", "cka:0.5", "--base", "vlm"], "--base is about removing channels and heads"),
        (["--save-pruned", "pruned"], "--save-pruned is about what --prune leaves"),
        (["--prune", "divergence:light"], "give its directory with --base"),
        (["--prune", "auto:0.5", "--base", "nowhere"], "no config.json there"),
        (["--prune", "cka:0.5,gate:0.5"], "layers are chosen once"),
        (["--prune", "cka:0.5", "--save-pruned", "."], "is in the way"),
        (["--error-budget", "0.1"], "about what --merge and --prune change"),
    ],
)
def test_what_cannot_be_meant_is_told_and_leaves_nothing(
    checkpoint: Path,
    flags: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(checkpoint)
    before = sorted(checkpoint.iterdir())
    assert cli.main(flags) == 2
    error = capsys.readouterr().err
    assert message in error.strip().splitlines()[-1]
    assert sorted(checkpoint.iterdir()) == before
