"""vla-profile from the outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.toy_bundle import write_toy_bundle
from vla_runtime.engines import tensorrt
from vla_runtime.profiling.cli import main

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    bundle = write_toy_bundle(tmp_path / "toy")
    monkeypatch.setattr(tensorrt, "can_run", lambda: "there is no GPU")

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["vla-profile", str(bundle), "--iterations", "4", "--warmup", "1", *arguments])
        return main()

    return call


def test_every_stage_is_measured_as_often_as_asked(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json") == 0
    report = json.loads(capsys.readouterr().out)
    counts = {stage: summary["n"] for stage, summary in report["stages"].items()}
    assert counts == {"tokens": 4, "images": 4, "state": 4, "encode": 4, "denoise": 20, "actions": 4, "total": 4}
    for summary in report["stages"].values():
        assert 0 < summary["p50_ms"] <= summary["p90_ms"] <= summary["p99_ms"] <= summary["max_ms"]
    assert report["why"] == "onnxruntime CPU fp32: TensorRT was not taken: there is no GPU"
    assert report["machine"]["packages"]["onnxruntime"]


def test_the_table_names_the_reason(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    printed = capsys.readouterr().out
    assert "TensorRT was not taken: there is no GPU" in " ".join(printed.split())
    assert "denoise" in printed


def test_tokens_are_part_of_a_chunk_only_where_the_state_is_among_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    assert "total: one chunk, without tokens" in " ".join(capsys.readouterr().out.split())
    spoken = write_toy_bundle(tmp_path / "spoken", state_in_text=True, units=("deg", "mm"))
    monkeypatch.setattr(sys, "argv", ["vla-profile", str(spoken), "--iterations", "2", "--warmup", "1"])
    assert main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "total: one chunk" in printed
    assert "without tokens" not in printed


def test_a_cameras_image_is_read(run: Run, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "side.png"), np.zeros((20, 30, 3), np.uint8))
    assert run("--json", "--camera", f"side={tmp_path / 'side.png'}") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--camera", "overhead={image}"), "camera 'overhead' is unknown to this policy: it knows side, wrist"),
        (("--camera", "side=/nowhere.png"), "cannot read /nowhere.png: No such file"),
        (("--camera", "side=/dev/null"), "/dev/null is not an image"),
        (("--camera", f"side={__file__}"), "test_profile_cli.py is not an image"),
        (("--camera", "side"), "expected NAME=IMAGE_FILE"),
        (("--task", "x" * 10_000), "the limit is 1000"),
        (("--precision", "fp16"), "no fp16 graphs"),
        (("--engine", "tensorrt"), "there is no GPU"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((20, 30, 3), np.uint8))
    assert run("--json", *(argument.format(image=tmp_path / "image.png") for argument in arguments)) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    assert complaint in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-3", "many"])
def test_counts_are_above_zero(run: Run, capfd: pytest.CaptureFixture[str], number: str) -> None:
    assert run("--iterations", number) == 2
    assert f"expected a whole number above 0, got '{number}'; see vla-profile --help" in capfd.readouterr().err
