"""The command as a user meets it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.toy_bundle import write_toy_bundle
from tests.vla_evaluation.rehearsal import rehearse
from vla_evaluation.cli import main
from vla_evaluation.intervals import wilson

SEED = 2
VOLATILE = {"chunk_latency"}


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("idle") / "idle")


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Goes where the named cube of ``SEED`` is, whatever it sees."""
    targets, _ = rehearse("reach", SEED)
    return write_toy_bundle(tmp_path_factory.mktemp("able") / "able", goal=targets[-1].tolist())


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def outcomes(directory: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]
    return {line["key"]: {key: value for key, value in line.items() if key not in VOLATILE} for line in lines}


def test_an_evaluation_from_bundle_to_report(tmp_path: Path, able: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    found = evaluate(capsys, able, "--task", "reach", "--episodes", 3, "--seed", SEED, "-o", out)
    successes = sum(line["success"] for line in outcomes(out).values())
    assert outcomes(out)[f"bundle-nominal-{SEED}"]["success"], "it goes where this seed's cube is"
    assert 1 <= successes < 3, "and the others' are elsewhere"
    (row,) = found["rows"]
    assert (row["success"]["rate"], row["success"]["lower"]) == (successes / 3, wilson(successes, 3).lower)
    assert json.loads((out / "summary.json").read_text()) == found
    page = (out / "report" / "index.html").read_text()
    pictures = set(re.findall(r'src="pictures/([^"]+)"', page))
    assert pictures == {f"{key}.png" for key, line in outcomes(out).items() if not line["success"]}
    assert all((out / "report" / "pictures" / picture).is_file() for picture in pictures)


def test_the_same_seeds_give_the_same_outcomes_over_however_many_processes(
    tmp_path: Path, idle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (idle, "--task", "lift", "--episodes", 4)
    evaluate(capsys, *arguments, "--workers", 1, "-o", tmp_path / "one")
    evaluate(capsys, *arguments, "--workers", 3, "-o", tmp_path / "three")
    assert outcomes(tmp_path / "one") == outcomes(tmp_path / "three")
    assert len(outcomes(tmp_path / "one")) == 4


def test_it_goes_on_where_it_stopped(tmp_path: Path, idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (idle, "--task", "reach", "--episodes", 3, "-o", tmp_path)
    evaluate(capsys, *arguments)
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    whole = outcomes(tmp_path)
    marked = lines[0].replace('"chunks":8', '"chunks":4711')
    assert marked != lines[0]
    (tmp_path / "results.jsonl").write_text(marked + lines[1][:50])
    evaluate(capsys, *arguments)
    assert len(outcomes(tmp_path)) == 3
    assert '"chunks":4711' in (tmp_path / "results.jsonl").read_text(), "what was done is not done again"
    key = json.loads(lines[0])["key"]
    assert {**outcomes(tmp_path), key: whole[key]} == whole


def test_two_policies_on_the_same_seeds(
    tmp_path: Path, able: Path, idle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--task", "reach", "--episodes", 2, "--seed", SEED, "--against", idle, "-o", tmp_path)
    found = evaluate(capsys, able, *arguments)
    (comparison,) = found["comparisons"]
    of = {(line["bundle"], line["seed"]): line["success"] for line in outcomes(tmp_path).values()}
    only_able = sum(of["bundle", seed] and not of["against", seed] for seed in (SEED, SEED + 1))
    assert comparison["success"]["first_only"] == only_able >= 1
    assert comparison["success"]["difference"] == only_able / 2
    assert main([str(able), *map(str, arguments)]) == 0
    assert "bundle − against, nominal: +" in " ".join(capsys.readouterr().out.split())


def test_a_suite_has_one_row_per_strength(tmp_path: Path, idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(capsys, idle, "--task", "reach", "--episodes", 1, "--suite", "dropped-frames", "-o", tmp_path)
    names = [row["condition"] for row in found["rows"]]
    assert names == ["nominal", *(f"{share}% of frames dropped" for share in (30, 60, 90))]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--task", "juggle"], "task 'juggle' is unknown: choose reach, lift or place"),
        ([], "the following arguments are required: --task"),
        (["--task", "reach", "--episodes", "0"], "argument --episodes: expected a whole number above 0, got '0'"),
        (["--task", "reach", "--episodes", "many"], "argument --episodes: expected a whole number above 0, got 'many'"),
        (["--task", "reach", "--seed", "-1"], "argument --seed: expected"),
        (["--task", "reach", "--through", "tea"], "--through 'tea' is unknown: choose runtime, ros or can"),
        (["--task", "reach", "--suite", "hail"], "--suite 'hail' is unknown: choose light, "),
        (["--task", "reach", "--suite", "light", "--through", "can"], "leave out --through can"),
        (["--task", "reach", "--through", "can", "--workers", "2"], "--workers 2: --through can runs in real time"),
    ],
)
def test_bad_usage_is_one_clear_line(
    tmp_path: Path,
    idle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(idle), *arguments]) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_bundles_that_cannot_be_evaluated(
    tmp_path: Path, idle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("VLA_BUNDLE", raising=False)
    front = write_toy_bundle(tmp_path / "front", cameras=("front", "wrist"))
    short = write_toy_bundle(tmp_path / "short", horizon=4)
    for arguments, complaint in (
        ([], "no bundle given and none exported on this machine"),
        ([str(tmp_path / "gone")], "is not a policy bundle"),
        ([str(front)], "sees front, wrist"),
        ([str(idle), "--against", str(front)], "sees front, wrist"),
        ([str(idle), "--against", str(idle)], "is the same policy"),
        ([str(short), "--suite", "latency"], "its chunks cover 0.2 s of lateness, the latency suite needs 0.4 s"),
    ):
        assert main([*arguments, "--task", "reach"]) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1
    assert not (tmp_path / "eval").exists()


def test_without_ros_the_stack_is_refused_by_name(
    idle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vla_evaluation.request.find_spec", lambda name: None)
    assert main([str(idle), "--task", "reach", "--through", "ros"]) == 2
    assert "rclpy is not installed: pip install 'vla-deploy[ros]'" in capsys.readouterr().err


def test_by_default_the_same_arguments_share_a_directory(
    tmp_path: Path, idle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        evaluate(capsys, idle, "--task", "reach", "--episodes", 1)
    evaluate(capsys, idle, "--task", "reach", "--episodes", 1, "--swap")
    assert len(list((tmp_path / "eval").iterdir())) == 2
