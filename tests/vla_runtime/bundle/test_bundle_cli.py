"""vla-bundle from the outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.cli import main
from vla_runtime.bundle.golden import read_golden, write_golden
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines import tensorrt
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine

Run = Callable[..., int]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_toy_bundle(tmp_path / "toy", precisions=("fp32", "fp16"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vla-bundle", *map(str, arguments)])
        return main()

    return call


def spoil_golden(bundle: Path, factor: float) -> Path:
    """A whole, well-digested bundle whose reference says something else than its graphs."""
    old = Bundle.open(bundle)
    samples = read_golden(old.path("golden.safetensors"))
    with BundleWriter(bundle.with_name("spoilt")) as writer:
        for name in old.manifest.files:
            (writer.root / name).write_bytes(old.path(name).read_bytes())
        for sample in samples:
            sample.chunk[...] *= np.float32(factor)
        write_golden(writer.root / "golden.safetensors", samples)
        return writer.finish(lambda files: old.manifest.model_copy(update={"files": files})).root


def test_inspect_tells_what_it_is(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", bundle) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("toy", "side 32×32", "joint2 [rad] 0 … 3.14", "gripper [m]", "10 Hz", "fp32, fp16", "1e-06"):
        assert word in printed


def test_inspect_tells_what_a_policy_speaks(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    integers = write_toy_bundle(
        tmp_path / "integers",
        units=("0.001deg", "0.001mm"),
        relative=True,
        state_in_text=True,
        padding="left_top",
    )
    assert run("inspect", integers) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "joint positions",
        "gripper [0.001mm] 0 … 70000",
        "joint6 [0.001deg] -120000 … 120000, relative to the state",
        "side 32×32 rgb, bilinear resize, bars of -1 on the left and top",
        "at most 96 tokens, the state among them",
    ):
        assert words in printed, printed
    assert "gripper [0.001mm] 0 … 70000, relative" not in printed
    assert run("inspect", write_toy_bundle(tmp_path / "pose", quantity="end_pose")) == 0
    assert "pose of the end effector" in capsys.readouterr().out


def test_inspect_for_machines(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", bundle, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["cameras"][1]["name"] == "wrist"
    assert printed["sizes"]["encode.onnx"] == (bundle / "encode.onnx").stat().st_size


def test_verify_runs_every_precision(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", bundle, "--json") == 0
    results = json.loads(capsys.readouterr().out)
    assert [(r["engine"], r["passes"]) for r in results] == [
        ("onnxruntime CPU fp32", True),
        ("onnxruntime CPU fp16", True),
    ]
    assert run("verify", bundle) == 0
    assert "passes" in capsys.readouterr().out


def test_a_guided_graph_is_verified_and_shown(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bundle = write_toy_bundle(tmp_path / "steering", guided=True)
    assert run("verify", bundle, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["guided"] < 1e-5
    assert run("verify", bundle) == 0
    assert "steering" in capsys.readouterr().out
    assert run("inspect", bundle) == 0
    assert "fp32 (guided too)" in capsys.readouterr().out


def test_verify_names_what_the_engine_does_not_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_toy_bundle(tmp_path / "both", precisions=("fp32", "int8"))
    assert run("verify", bundle, "--json") == 0
    assert [r["precision"] for r in json.loads(capsys.readouterr().out)] == ["fp32", "int8"]

    monkeypatch.setattr(tensorrt, "can_run", lambda: None)
    monkeypatch.setattr(tensorrt, "TensorRTEngine", OnnxRuntimeEngine)
    assert run("verify", bundle, "--engine", "tensorrt", "--json") == 3
    printed = capsys.readouterr()
    assert [r["precision"] for r in json.loads(printed.out)] == ["fp32"]
    assert printed.err == "skipped: int8 graphs, which TensorRT does not run\n"


@pytest.mark.parametrize("factor", [1.5, np.nan])
def test_verify_fails_with_one_line(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str], factor: float) -> None:
    spoilt = spoil_golden(bundle, factor)
    assert run("verify", spoilt, "--json") == 1
    printed = capsys.readouterr()
    assert "does not agree with PyTorch" in printed.err
    assert printed.err.count("\n") == 1
    assert not json.loads(printed.out)[0]["passes"]


def test_verify_gates_each_precision_by_its_own(run: Run, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify", spoil_golden(bundle, 1.001), "--json") == 1
    assert [result["passes"] for result in json.loads(capsys.readouterr().out)] == [False, True]


@pytest.mark.parametrize("verb", ["inspect", "verify", "build"])
def test_a_changed_bundle_is_exit_code_2_everywhere(
    run: Run, bundle: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (bundle / "tokenizer.json").write_text("{}")
    assert run(verb, bundle) == 2
    assert "tokenizer.json is not the file that was exported" in capsys.readouterr().err


def test_without_a_bundle_the_last_one_is_meant(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLA_BUNDLE", str(bundle))
    assert run("inspect", "--json") == 0
    assert json.loads(capsys.readouterr().out)["family"] == "toy"


def test_build_without_tensorrt_is_a_named_skip(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tensorrt, "available", lambda: "neither tensorrt nor tensorrt_rtx is installed")
    assert run("build", bundle) == 3
    printed = capsys.readouterr()
    assert "neither tensorrt nor tensorrt_rtx is installed" in printed.err
    assert "pip install" in printed.err


def test_build_takes_the_smallest_precision_and_names_the_plans(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(opened: Bundle, precision: str, progress: object = None) -> list[Path]:
        return [Path(f"/cache/{graph}.{precision}.plan") for graph in ("encode", "denoise")]

    monkeypatch.setattr(tensorrt, "available", lambda: None)
    monkeypatch.setattr(tensorrt, "build", build)
    assert run("build", bundle, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "precision": "fp16",
        "plans": ["/cache/encode.fp16.plan", "/cache/denoise.fp16.plan"],
    }
