"""int8 graphs compute the integer products they promise, in every linear but the edges, and little else changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vla_export.graph.onnx_export import OPSET
from vla_export.graph.quantisation import quantise
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.manifest import Graphs
from vla_runtime.bundle.parity import compare
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine

PARTS = ("encode", "denoise")


@pytest.fixture(scope="session")
def quantised(exported, tmp_path_factory) -> Bundle:
    """The exported toy with int8 graphs beside its own."""
    return with_int8(exported.bundle, tmp_path_factory.mktemp("int8") / "bundle")


def with_int8(bundle: Bundle, directory: Path) -> Bundle:
    shutil.copytree(bundle.root, directory)
    graphs = bundle.manifest.graphs | {"int8": quantise(bundle.manifest.graphs["fp32"], directory)}
    files = {path.relative_to(directory).as_posix(): "0" * 64 for path in directory.rglob("*") if path.is_file()}
    return Bundle(directory, bundle.manifest.model_copy(update={"graphs": graphs, "files": files}))


def graph(bundle: Bundle, precision: str, part: str) -> onnx.GraphProto:
    return onnx.load(bundle.path(getattr(bundle.manifest.graphs[precision], part))).graph


def weights(bundle: Bundle, precision: str, part: str) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in graph(bundle, precision, part).initializer}


def is_edge(name: str) -> bool:
    return name.startswith(("state_", "action_"))


@pytest.mark.parametrize("policy", ["exported", "routed"])
def test_actions_are_within_a_few_percent(policy, request, tmp_path):
    bundle = with_int8(request.getfixturevalue(policy).bundle, tmp_path / "bundle")
    goldens = read_golden(bundle.path("golden.safetensors"))
    found = compare(OnnxRuntimeEngine(bundle, "int8", threads=1), goldens, bundle.manifest.flow_steps)
    assert 1e-4 < found.chunk < 5e-2, found


@pytest.mark.parametrize("part", PARTS)
def test_a_graph_takes_and_gives_what_its_float32_one_does(quantised, part):
    ours, theirs = (graph(quantised, precision, part) for precision in ("int8", "fp32"))
    assert list(ours.input) == list(theirs.input)
    assert list(ours.output) == list(theirs.output)


@pytest.mark.parametrize("part", PARTS)
def test_linears_are_int8_and_all_else_is_as_it_was(quantised, part):
    before, after = weights(quantised, "fp32", part), weights(quantised, "int8", part)
    linears = {name for name in before if name.endswith(".weight.T") and not is_edge(name)}
    assert len(linears) > 10
    for name in linears:
        assert after[name].dtype == np.int8
        np.testing.assert_allclose(
            after[name] * after[f"{name}.scale"], before[name], atol=np.abs(before[name]).max() / 250
        )
        largest = np.abs(before[name]).max(axis=0) > 0
        assert (np.abs(after[name].astype(int)).max(axis=0)[largest] == 127).all()
    kept = {name for name in before if ".weight" in name or ".bias" in name} - linears
    assert any(is_edge(name) for name in kept)
    assert all(np.array_equal(before[name], after[name]) for name in kept)


@pytest.mark.parametrize("part", PARTS)
def test_nodes_have_names_of_their_own_and_no_weight_is_left_over(quantised, part):
    found = graph(quantised, "int8", part)
    names = [node.name for node in found.node]
    assert len(set(names)) == len(names)
    assert all(names)
    used = {name for node in found.node for name in node.input}
    assert {t.name for t in found.initializer} <= used


def test_the_same_graphs_give_the_same_bytes(quantised, tmp_path):
    again = with_int8(quantised, tmp_path / "bundle")
    files = sorted(path.name for path in (again.root / "int8").iterdir())
    assert files == [f"{part}.onnx{end}" for part in ("denoise", "encode") for end in ("", ".data")]
    for name in files:
        assert (again.root / "int8" / name).read_bytes() == (quantised.root / "int8" / name).read_bytes()


def one_linear(directory: Path, weight: np.ndarray, tokens: int, module: str) -> ort.InferenceSession:
    """A session of a quantised graph that holds nothing but one linear, twice: encode and denoise are the same."""
    inputs, outputs = weight.shape
    name = f"{module}.weight.T"
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", name], ["y"], name=f"{module}/MatMul")],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, tokens, inputs])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, tokens, outputs])],
            [numpy_helper.from_array(weight, name)],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=10,
    )
    for part in PARTS:
        ir.save(ir.from_proto(model), directory / f"{part}.onnx")
    made = quantise(Graphs(encode="encode.onnx", denoise="denoise.onnx"), directory)
    return ort.InferenceSession(str(directory / made.denoise), providers=["CPUExecutionProvider"])


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = np.abs(weight).max(axis=0) / 127
    return np.rint(weight / np.where(scale > 0, scale, 1)), scale


def dynamic(x: np.ndarray) -> tuple[np.ndarray, float]:
    """ONNX's DynamicQuantizeLinear, less its zero point: integers and their scale."""
    low, high = min(x.min(), 0.0), max(x.max(), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.clip(np.rint(x / scale) + zero, 0, 255) - zero, scale


arrays = st.tuples(st.integers(0, 2**32 - 1), st.floats(-3, 3), st.floats(-6, 3))


@settings(max_examples=10, deadline=None)
@given(drawn=arrays)
def test_a_linear_is_the_promised_product_of_integers(drawn, tmp_path_factory):
    seed, shift, exponent = drawn
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((24, 10)).astype(np.float32) * np.float32(10**exponent)
    x = (generator.standard_normal((1, 6, 24)) + shift).astype(np.float32)
    session = one_linear(tmp_path_factory.mktemp("linear"), weight, 6, "language.layers.0.mlp.gate_proj")
    (w, w_scale), (q, x_scale) = rounded(weight), dynamic(x)
    # A number that lies between two integers may be rounded to either.
    slack = 2 * x_scale * w_scale * 127
    assert (np.abs(session.run(None, {"x": x})[0] - (q @ w) * x_scale * w_scale) <= slack).all()


def test_a_column_of_zeros_and_a_token_of_zeros_give_zeros(tmp_path):
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((24, 10)).astype(np.float32)
    weight[:, 3] = 0
    x = generator.standard_normal((1, 6, 24)).astype(np.float32)
    x[:, 2] = 0
    y = one_linear(tmp_path, weight, 6, "language.layers.0.mlp.down_proj").run(None, {"x": x})[0]
    assert (y[..., 3] == 0).all()
    assert (y[:, 2] == 0).all()
    np.testing.assert_allclose(y, x @ weight, atol=0.1)


@pytest.mark.parametrize(
    ("module", "spared"), [("mlp.down_proj", True), ("mlp.down_proj.base", True), ("mlp.fc2", False)]
)
def test_one_tokens_spike_leaves_the_others_of_a_gated_mlp_alone(module, spared, tmp_path):
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((64, 10)).astype(np.float32)
    x = generator.standard_normal((1, 6, 64)).astype(np.float32)
    x[0, 0, 0] = 5000.0
    y = one_linear(tmp_path, weight, 6, f"language.layers.0.{module}").run(None, {"x": x})[0]
    exact = x @ weight
    error = np.linalg.norm((y - exact)[:, 1:]) / np.linalg.norm(exact[:, 1:])
    assert (error < 0.02) == spared


def test_what_several_linears_read_is_quantised_once(quantised):
    nodes = graph(quantised, "int8", "encode").node
    inputs = [node.input[0] for node in nodes if node.op_type == "DynamicQuantizeLinear"]
    assert len(set(inputs)) == len(inputs)
    products = [node for node in nodes if node.op_type == "MatMulInteger"]
    assert len(inputs) < len(products)


def test_progress_is_told_of_both_graphs(exported, tmp_path):
    shutil.copytree(exported.bundle.root, tmp_path / "bundle")
    told = []
    quantise(exported.bundle.manifest.graphs["fp32"], tmp_path / "bundle", lambda: told.append(1))
    assert told == [1, 1]
