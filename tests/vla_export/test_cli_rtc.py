"""``--rtc``: a third graph in the bundle, on request, and refusals of what it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_export import cli
from vla_export.request import parse_request
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput

TINY = Path(__file__).parents[1] / "oracles" / "goldens" / "pi0"


@pytest.mark.parametrize(("word", "guided"), [(None, False), ("guided", True)])
@pytest.mark.parametrize("precision", [None, "fp32", "fp32,fp16"])
def test_the_graph_is_there_on_request_alone(tmp_path: Path, word: str | None, guided: bool, precision: str) -> None:
    assert parse_request(tmp_path, rtc=word, precision=precision).guided is guided


@pytest.mark.parametrize("word", ["hard", "identity", "off", ""])
def test_other_forms_need_nothing_of_the_bundle(tmp_path: Path, word: str) -> None:
    with pytest.raises(BadInput, match=rf"--rtc {word}: expected guided .* need nothing of the bundle"):
        parse_request(tmp_path, rtc=word)


@pytest.mark.parametrize("precision", ["int8", "fp32,int8"])
def test_int8_graphs_have_no_gradient(tmp_path: Path, precision: str) -> None:
    with pytest.raises(
        BadInput, match=f"no gradient flows through int8 graphs: leave int8 out of --precision {precision}"
    ):
        parse_request(tmp_path, rtc="guided", precision=precision)


def test_the_word_alone_means_guided_and_the_graph_is_proven(
    tmp_path: Path, private_state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([str(TINY), "--rtc", "-o", str(tmp_path / "bundle"), "--json"]) == 0
    (parity,) = json.loads(capsys.readouterr().out)["parity"]
    assert 0 < parity["guided"] < 1e-5
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.graphs["fp32"].guided == "guided.onnx"
    assert bundle.manifest.provenance.stages[-1].measured["guided"] == parity["guided"]
    assert OnnxRuntimeEngine(bundle, threads=1).can_guide
    report = json.loads((bundle.root / "report" / "report.json").read_text(encoding="utf-8"))
    assert [graph["name"] for graph in report["graphs"]] == ["encode.onnx", "denoise.onnx", "guided.onnx"]
