"""ONNX Runtime behind the engine protocol: types at the boundary, and graphs that keep the manifest's word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.manifest import Camera, Manifest, Precision
from vla_runtime.bundle.parity import compare
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput


@pytest.fixture
def bundle(toy_bundle: Callable[..., Bundle]) -> Bundle:
    return toy_bundle(precisions=("fp32", "fp16"))


def test_the_name_says_engine_device_and_precision(bundle: Bundle) -> None:
    assert OnnxRuntimeEngine(bundle, threads=1).name == "onnxruntime CPU fp32"
    assert OnnxRuntimeEngine(bundle, "fp16", threads=1).name == "onnxruntime CPU fp16"


def test_half_graphs_are_fed_half_and_answer_in_single(bundle: Bundle) -> None:
    sample = read_golden(bundle.path("golden.safetensors"))[0]
    engine = OnnxRuntimeEngine(bundle, "fp16", threads=1)
    prefix = engine.encode(sample.inputs)
    assert engine.prefix_arrays(prefix)["key_00"].dtype == np.float16
    assert engine.denoise(sample.noise, 1.0, 0.8, prefix).dtype == np.float32


def test_half_is_less_exact_than_single_but_within_its_gate(bundle: Bundle) -> None:
    samples = read_golden(bundle.path("golden.safetensors"))
    single, half = (
        compare(OnnxRuntimeEngine(bundle, precision, threads=1), samples, bundle.manifest.flow_steps)
        for precision in ("fp32", "fp16")
    )
    assert single.passes("fp32")
    assert half.passes("fp16")
    assert not half.passes("fp32")
    assert single.chunk < half.chunk


def test_a_prefix_stays_valid_while_others_are_made(bundle: Bundle) -> None:
    first, second = read_golden(bundle.path("golden.safetensors"))
    engine = OnnxRuntimeEngine(bundle, threads=1)
    prefix = engine.encode(first.inputs)
    engine.encode(second.inputs)
    np.testing.assert_allclose(engine.denoise(first.noise, 1.0, 0.8, prefix), first.step, atol=1e-5)


def test_inputs_that_are_not_contiguous(bundle: Bundle) -> None:
    sample = read_golden(bundle.path("golden.safetensors"))[0]
    engine = OnnxRuntimeEngine(bundle, threads=1)
    inputs = {**sample.inputs, "images": np.asfortranarray(sample.inputs["images"]).astype(np.float64)}
    np.testing.assert_allclose(
        engine.prefix_arrays(engine.encode(inputs))["key_00"], sample.prefix["key_00"], atol=1e-6
    )


def test_a_precision_the_bundle_lacks(toy_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(BadInput, match="no fp16 graphs, it has fp32"):
        OnnxRuntimeEngine(toy_bundle(), "fp16")


def test_int8_graphs_hand_over_float32(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(precisions=("int8",))
    sample = read_golden(bundle.path("golden.safetensors"))[0]
    engine = OnnxRuntimeEngine(bundle, "int8", threads=1)
    assert engine.name == "onnxruntime CPU int8"
    assert engine.prefix_arrays(engine.encode(sample.inputs))["key_00"].dtype == np.float32


def test_a_graph_that_reads_the_state_beside_the_text_is_not_the_manifests(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(state_in_text=True)
    OnnxRuntimeEngine(bundle, threads=1)
    plain = bundle.manifest.tokenizer.model_copy(update={"template": "{task}", "state_bins": None})
    manifest = bundle.manifest.model_copy(update={"tokenizer": plain})
    with pytest.raises(BadInput, match=r"encode: state is missing, the manifest says \[1, 8\]"):
        OnnxRuntimeEngine(Bundle(bundle.root, manifest), threads=1)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"horizon": 8}, "chunk is"),
        ({"cameras": (Camera(name="side", height=32, width=32),)}, "images is"),
        ({"cameras": tuple(Camera(name=name, height=24, width=32) for name in "ab")}, "images is"),
    ],
)
def test_graphs_that_are_not_the_manifests(bundle: Bundle, change: dict[str, object], name: str) -> None:
    manifest: Manifest = bundle.manifest.model_copy(update=change)
    with pytest.raises(BadInput, match=f"{name}.*the manifest says"):
        OnnxRuntimeEngine(Bundle(bundle.root, manifest), threads=1)


def test_a_file_that_is_no_graph(bundle: Bundle) -> None:
    bundle.path("encode.onnx").write_bytes(b"no graph")
    with pytest.raises(BadInput, match=r"cannot load .*encode.onnx"):
        OnnxRuntimeEngine(bundle, threads=1)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_guided_step_is_the_bundles(toy_bundle: Callable[..., Bundle], precision: Precision) -> None:
    bundle = toy_bundle(guided=True, precisions=(precision,))
    sample = read_golden(bundle.path("golden.safetensors"))[0]
    assert sample.guided is not None
    engine = OnnxRuntimeEngine(bundle, precision, threads=1)
    assert engine.can_guide
    step = sample.guided
    found = engine.guided(step.chunk, 0.1, 0.05, engine.encode(sample.inputs), step.previous, step.weights, 5.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, step.next_chunk, atol=1e-5 if precision == "fp32" else 5e-3)
    assert np.abs(step.next_chunk - step.free).max() > 0.05


def test_without_a_guided_graph_it_cannot_guide(bundle: Bundle) -> None:
    sample = read_golden(bundle.path("golden.safetensors"))[0]
    engine = OnnxRuntimeEngine(bundle, threads=1)
    assert not engine.can_guide
    weights = np.ones((1, 16, 1), np.float32)
    with pytest.raises(BadInput, match="has no guided graph: export the bundle with --rtc"):
        engine.guided(sample.noise, 1.0, 0.8, engine.encode(sample.inputs), sample.noise, weights, 5.0)


def test_a_guided_graph_that_steers_nothing_is_refused(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(guided=True)
    bundle.path("guided.onnx").write_bytes(bundle.path("denoise.onnx").read_bytes())
    with pytest.raises(BadInput, match=r"guided: beta is missing, the manifest says \[1\]"):
        OnnxRuntimeEngine(bundle, threads=1)
