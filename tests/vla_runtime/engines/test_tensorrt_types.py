"""What a graph takes, gives and computes in is compared with the manifest, tensor by tensor."""

from __future__ import annotations

import pytest

from vla_runtime.engines.tensorrt_types import (
    Tensors,
    TensorType,
    check_handover,
    check_tensors,
    is_float32_by_design,
)
from vla_runtime.errors import WorkFailed

LENGTH = 27


def prefix(dtype: str, layers: int = 2) -> Tensors:
    keys = {f"{what}_{n:02d}": TensorType(dtype, (1, 1, LENGTH, 8)) for n in range(layers) for what in ("key", "value")}
    return {"prefix_mask": TensorType("BOOL", (1, LENGTH)), **keys}


def observation() -> Tensors:
    return {
        "images": TensorType("FLOAT", (2, 3, 32, 32)),
        "tokens": TensorType("INT32", (1, 24)),
        "token_mask": TensorType("BOOL", (1, 24)),
        "state": TensorType("FLOAT", (1, 8)),
    }


NO_STATE = {name: tensor for name, tensor in observation().items() if name != "state"}
CHUNK = TensorType("FLOAT", (1, 16, 8))
STEP = {"chunk": CHUNK, "time": TensorType("FLOAT", (1,)), "next_time": TensorType("FLOAT", (1,))}

TOWARDS = {"previous": CHUNK, "weights": TensorType("FLOAT", (1, 16, 1)), "beta": TensorType("FLOAT", (1,))}


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "FLOAT"), ("fp16", "HALF")])
def test_the_manifests_tensors_pass(toy_bundle, precision, dtype):
    manifest = toy_bundle().manifest
    check_tensors("encode", "encode.onnx", observation(), prefix(dtype), manifest, precision)
    check_tensors("denoise", "denoise.onnx", STEP | prefix(dtype), {"next_chunk": CHUNK}, manifest, precision)
    check_handover(prefix(dtype), STEP | prefix(dtype))
    check_tensors("guided", "guided.onnx", STEP | TOWARDS | prefix(dtype), {"next_chunk": CHUNK}, manifest, precision)
    check_handover(prefix(dtype), STEP | TOWARDS | prefix(dtype), "guided")


def test_what_a_guided_step_is_steered_by_is_checked(toy_bundle):
    manifest = toy_bundle().manifest
    lacking = {name: tensor for name, tensor in TOWARDS.items() if name != "beta"}
    with pytest.raises(WorkFailed, match=r"guided\.onnx: input beta is missing"):
        check_tensors("guided", "guided.onnx", STEP | lacking | prefix("FLOAT"), {}, manifest, "fp32")
    with pytest.raises(WorkFailed, match="guided: input key_01 is"):
        check_handover(prefix("FLOAT"), STEP | TOWARDS | prefix("FLOAT", layers=1), "guided")


def test_a_state_in_the_text_is_no_input(toy_bundle):
    manifest = toy_bundle(state_in_text=True).manifest
    inputs = {
        name: TensorType(kept.dtype, (1, 96) if "token" in name else kept.shape) for name, kept in NO_STATE.items()
    }
    check_tensors("encode", "encode.onnx", inputs, prefix("FLOAT"), manifest, "fp32")
    inputs["state"] = observation()["state"]
    with pytest.raises(WorkFailed, match=r"input state is FLOAT \[1, 8\], the manifest says there is none"):
        check_tensors("encode", "encode.onnx", inputs, prefix("FLOAT"), manifest, "fp32")


@pytest.mark.parametrize("name", [*observation(), *prefix("HALF")])
@pytest.mark.parametrize("change", ["type", "shape", "missing"])
def test_any_difference_in_encode_is_named(toy_bundle, name, change):
    inputs, outputs = observation(), prefix("HALF")
    side = inputs if name in inputs else outputs
    spoil(side, name, change)
    with pytest.raises(WorkFailed, match=name if change != "shape" or name != "prefix_mask" else "key_00"):
        check_tensors("encode", "encode.onnx", inputs, outputs, toy_bundle().manifest, "fp16")


@pytest.mark.parametrize("name", [*STEP, "next_chunk", "value_01"])
@pytest.mark.parametrize("change", ["type", "shape", "missing"])
def test_any_difference_in_denoise_is_named(toy_bundle, name, change):
    inputs, outputs = STEP | prefix("HALF"), {"next_chunk": CHUNK}
    spoil(inputs if name in inputs else outputs, name, change)
    with pytest.raises(WorkFailed, match=name):
        check_tensors("denoise", "denoise.onnx", inputs, outputs, toy_bundle().manifest, "fp16")


def test_an_unknown_output_is_named(toy_bundle):
    outputs = {**prefix("HALF"), "logits": CHUNK, "loss": CHUNK}
    with pytest.raises(WorkFailed, match="key_02 is missing|logits"):
        check_tensors("encode", "encode.onnx", observation(), outputs, toy_bundle().manifest, "fp16")


@pytest.mark.parametrize("layers", [1, 3])
def test_a_handover_of_other_layers_is_refused(layers):
    with pytest.raises(WorkFailed, match=r"(key|value)_0[12]"):
        check_handover(prefix("HALF"), STEP | prefix("HALF", layers))


def test_a_handover_of_another_type_is_refused():
    with pytest.raises(WorkFailed, match=r"key_00 is FLOAT .*, encode says HALF"):
        check_handover(prefix("HALF"), STEP | prefix("FLOAT"))


def test_only_the_policys_edges_are_float32_by_design():
    assert is_float32_by_design("state_proj")
    assert is_float32_by_design("action_time_mlp_in/MatMul")
    assert is_float32_by_design("time_mlp_out/Gemm")
    assert not is_float32_by_design("expert.layers.0.attention.q_proj/MatMul")
    assert not is_float32_by_design("expert.layers.0.input_norm.dense/Gemm")
    assert not is_float32_by_design("projector")


def spoil(tensors: Tensors, name: str, change: str) -> None:
    kept = tensors.pop(name)
    if change == "type":
        tensors[name] = TensorType("INT64", kept.shape)
    elif change == "shape":
        tensors[name] = TensorType(kept.dtype, (*kept.shape, 2))
