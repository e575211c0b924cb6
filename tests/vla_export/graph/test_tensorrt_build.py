"""TensorRT-RTX parses and builds what is exported, in the types that were asked for; no GPU is needed for that."""

from __future__ import annotations

import json

import onnx
import pytest
from onnx import TensorProto

from tests.vla_export.graph.conftest import BOTH
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Graphs
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines import tensorrt_build
from vla_runtime.engines.tensorrt import available, build, can_run
from vla_runtime.errors import WorkFailed

pytestmark = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("policy", ["exported", "routed"])
def test_both_graphs_build_and_the_second_time_nothing_is_built(policy, precision, request, monkeypatch):
    bundle = request.getfixturevalue(policy).bundle
    progress = []
    plans = build(bundle, precision, lambda: progress.append(1))
    assert len(progress) == 2
    assert [plan.name.split(".")[:2] for plan in plans] == [["encode", precision], ["denoise", precision]]
    assert all(plan.stat().st_size > 10_000 for plan in plans)
    monkeypatch.setattr(tensorrt_build, "_build_one", lambda *_: pytest.fail("built again"))
    assert build(bundle, precision) == plans


def test_precisions_have_plans_of_their_own(exported):
    assert set(build(exported.bundle, "fp32")).isdisjoint(build(exported.bundle, "fp16"))


def test_the_sidecar_says_what_the_plan_is_of(exported):
    for plan in build(exported.bundle, "fp16"):
        key = json.loads(plan.with_suffix(".json").read_text())["key"]
        part = plan.name.split(".")[0]
        assert key["graph"] == f"fp16/{part}.onnx"
        assert key["files"][f"fp16/{part}.onnx.data"] == exported.bundle.manifest.files[f"fp16/{part}.onnx.data"]
        assert key["library"].startswith("tensorrt")
        assert key["device"]


def test_a_changed_plan_is_built_again(exported):
    plan = build(exported.bundle, "fp16")[1]
    whole = plan.read_bytes()
    plan.write_bytes(whole[:1000])
    build(exported.bundle, "fp16")
    assert len(plan.read_bytes()) == len(whole)


def test_a_graph_of_the_other_precision_is_refused_by_layer(exported, tmp_path):
    bundle = rewritten(exported.bundle, tmp_path / "bundle", {"fp16": exported.bundle.manifest.graphs["fp32"]})
    with pytest.raises(WorkFailed, match=r"encode\.onnx: vision\.patch_embedding/Conv computes in FLOAT, a fp16"):
        build(bundle, "fp16")
    assert not list((tmp_path / "cache").rglob("*.plan"))


def test_half_products_are_refused_in_fp32(exported, tmp_path):
    bundle = rewritten(exported.bundle, tmp_path / "bundle", {"fp32": exported.bundle.manifest.graphs["fp16"]})
    with pytest.raises(WorkFailed, match="computes in HALF, a fp32 engine needs FLOAT"):
        build(bundle, "fp32")


def test_one_float_product_among_half_ones_is_refused(exported, tmp_path):
    """A graph whose down projection was left in float32, with casts around it: valid ONNX, but not what was asked."""
    bundle = rewritten(exported.bundle, tmp_path / "bundle", {}, change=("fp16/denoise.onnx", widen_one_product))
    with pytest.raises(WorkFailed, match=r"expert\.layers\.1\.mlp\.down_proj/MatMul computes in FLOAT"):
        build(bundle, "fp16")


def test_a_missing_output_is_refused_by_name(exported, tmp_path):
    def drop(graph: onnx.GraphProto) -> None:
        del graph.output[-1]

    bundle = rewritten(exported.bundle, tmp_path / "bundle", {}, change=("encode.onnx", drop))
    with pytest.raises(WorkFailed, match=r"encode\.onnx: output value_01 is missing"):
        build(bundle, "fp32")


def test_an_operator_it_does_not_know_is_named(exported, tmp_path):
    def spoil(graph: onnx.GraphProto) -> None:
        next(node for node in graph.node if node.op_type == "Softmax").op_type = "Hardmax2000"

    bundle = rewritten(exported.bundle, tmp_path / "bundle", {}, change=("denoise.onnx", spoil))
    with pytest.raises(WorkFailed, match=r"cannot parse denoise\.onnx: node expert\.layers\.0/Softmax \(Hardmax2000\)"):
        build(bundle, "fp32")


@pytest.mark.skipif(can_run() is None, reason="engines can run here")
def test_without_a_gpu_the_reason_is_given_in_words():
    assert "installed but" in can_run()
    assert "GPU" in can_run()


@pytest.mark.gpu
@pytest.mark.skipif(can_run() is not None, reason=str(can_run()))
@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("policy", ["exported", "routed"])
def test_on_a_gpu_it_computes_what_pytorch_computes(policy, precision, request):
    from vla_runtime.bundle.golden import read_golden
    from vla_runtime.bundle.parity import compare
    from vla_runtime.engines.tensorrt import TensorRTEngine

    bundle = request.getfixturevalue(policy).bundle
    goldens = read_golden(bundle.path("golden.safetensors"))
    found = compare(TensorRTEngine(bundle, precision), goldens, bundle.manifest.flow_steps)
    assert found.passes(precision), found


def widen_one_product(graph: onnx.GraphProto) -> None:
    node = next(n for n in graph.node if n.name == "expert.layers.1.mlp.down_proj/MatMul")
    at = list(graph.node).index(node)
    left, right = (onnx.helper.make_node("Cast", [name], [f"{name}.wide"], to=TensorProto.FLOAT) for name in node.input)
    back = onnx.helper.make_node("Cast", [f"{node.output[0]}.wide"], [node.output[0]], to=TensorProto.FLOAT16)
    node.input[:], node.output[0] = [left.output[0], right.output[0]], back.input[0]
    for position, extra in ((at, left), (at + 1, right), (at + 3, back)):
        graph.node.insert(position, extra)


def rewritten(bundle: Bundle, target, graphs: dict[str, Graphs], change=None) -> Bundle:
    """A copy of a bundle with other graphs under a precision, or one graph changed."""
    with BundleWriter(target) as writer:
        for name in bundle.manifest.files:
            path = writer.root / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(bundle.path(name).read_bytes())
        if change is not None:
            name, apply = change
            model = onnx.load(writer.root / name, load_external_data=False)
            apply(model.graph)
            onnx.save(model, writer.root / name)
        changed = {"graphs": {**bundle.manifest.graphs, **graphs}}
        return writer.finish(lambda files: bundle.manifest.model_copy(update={**changed, "files": files}))
