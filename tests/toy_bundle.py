"""A policy bundle of a few kilobytes whose linear "policy" keeps the arm near where it is.

``python -m tests.toy_bundle OUT`` writes one.

Its two graphs have the tensors of every flow-matching bundle. The chunk starts at the observed state and drifts by
``ramp`` until its end (joints only), or is a ``goal`` from its first action on; pixels and words move it by a
thousandth, so that losing one of them shows. A policy that reads the state in its text cannot compute with it: its
chunk starts in the middle of the state's statistics.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import decoders, models, pre_tokenizers, trainers

from vla_runtime.bundle.golden import GoldenSample, GuidedStep, write_golden
from vla_runtime.bundle.manifest import (
    Camera,
    Dimension,
    Graphs,
    Manifest,
    Normalisation,
    Part,
    Precision,
    Provenance,
    Space,
    Stage,
    Tokenizer,
    Unit,
)
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.policy.units import from_si

JOINTS = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper")
LOWER = (-2.618, 0.0, -2.967, -1.745, -1.22, -2.0944, 0.0)
UPPER = (2.618, 3.14, 0.0, 1.745, 1.22, 2.0944, 0.07)
MEAN = (0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03)
STD = (0.3, 0.4, 0.4, 0.3, 0.3, 0.3, 0.02)
WIDTH = 8
MAX_TOKENS = 24
MAX_TOKENS_WITH_STATE = 96
STATE_BINS = 256
VOCABULARY = 320


def write_toy_bundle(
    target: Path,
    *,
    cameras: Sequence[str] = ("side", "wrist"),
    size: int = 32,
    horizon: int = 16,
    rate: float = 10.0,
    flow_steps: int = 5,
    precisions: Sequence[Precision] = ("fp32",),
    ramp: float = 0.02,
    goal: Sequence[float] | None = None,
    units: tuple[Unit, Unit] = ("rad", "m"),
    quantity: Literal["joints", "end_pose"] = "joints",
    relative: bool = False,
    state_in_text: bool = False,
    padding: Literal["both", "left_top"] = "both",
    guided: bool = False,
) -> Path:
    """Write the bundle and return its path.

    ramp: how far each joint drifts over one chunk, in [rad].
    goal: six joints in [rad] and the gripper in [m], asked for at once whatever the state; by default there is none.
    units: what the policy speaks of joints and of the gripper.
    relative: whether the joints of its actions are relative to the state; its graphs stay the same.
    guided: whether it has a graph for guided real-time chunking.
    """
    max_tokens = MAX_TOKENS_WITH_STATE if state_in_text else MAX_TOKENS
    state = _space(units, quantity)
    with BundleWriter(target) as writer:
        _write_tokenizer(writer.root / "tokenizer.json")
        graphs: dict[Precision, Graphs] = {}
        for precision in precisions:
            suffix = "" if precision == "fp32" else f".{precision}"
            graphs[precision] = Graphs(
                encode=f"encode{suffix}.onnx",
                denoise=f"denoise{suffix}.onnx",
                guided=f"guided{suffix}.onnx" if guided else None,
            )
            dtype = np.dtype(np.float16 if precision == "fp16" else np.float32)
            encode = _encode_graph(len(cameras), size, max_tokens, state_in_text, dtype)
            made = {"encode": encode}
            for step in ("denoise", "guided"):
                made[step] = _step_graph(
                    len(cameras) + max_tokens + 1, horizon, ramp, goal, dtype, steered=step == "guided"
                )
            for part, file in graphs[precision].parts().items():
                onnx.save(made[part], writer.root / file)
        golden = _golden({part: writer.root / file for part, file in _reference(graphs)}, horizon, flow_steps)
        write_golden(writer.root / "golden.safetensors", golden)
        writer.finish(
            lambda files: Manifest(
                family="toy",
                cameras=tuple(Camera(name=name, height=size, width=size, padding=padding) for name in cameras),
                state=state,
                action=state.model_copy(update={"relative": (True,) * 6 + (False,)}) if relative else state,
                horizon=horizon,
                rate=rate,
                flow_steps=flow_steps,
                tokenizer=_tokenizer(state_in_text, max_tokens),
                graphs=graphs,
                provenance=Provenance(
                    exporter="toy",
                    checkpoint="toy",
                    checkpoint_sha256="0" * 64,
                    stages=(Stage(name="export", summary="two linear graphs", measured={"relative error": 1e-6}),),
                ),
                files=files,
            )
        )
    return Path(target)


def _space(units: tuple[Unit, Unit], quantity: Literal["joints", "end_pose"]) -> Space:
    space = Space(
        dimensions=tuple(Dimension(name=name, unit=units[name == "gripper"]) for name in JOINTS),
        normalisation=Normalisation(mode="identity", offset=(0.0,) * 7, scale=(1.0,) * 7),
        padded_to=WIDTH,
        quantity=quantity,
    )
    lower, upper, mean, std = (from_si(np.array(values), space).tolist() for values in (LOWER, UPPER, MEAN, STD))
    return space.model_copy(
        update={
            "dimensions": tuple(
                Dimension(name=d.name, unit=d.unit, lower=low, upper=high)
                for d, low, high in zip(space.dimensions, lower, upper, strict=True)
            ),
            "normalisation": Normalisation(mode="mean_std", offset=mean, scale=std),
        }
    )


def _tokenizer(state_in_text: bool, max_tokens: int) -> Tokenizer:
    common: dict[str, Any] = {"file": "tokenizer.json", "max_length": max_tokens, "pad_id": 0, "bos_id": 1}
    if not state_in_text:
        return Tokenizer(**common)
    template = "Task: {task}, State: {state};\nAction: "
    return Tokenizer(**common, template=template, plain_task=True, state_bins=STATE_BINS)


def _reference(graphs: dict[Precision, Graphs]) -> list[tuple[Part, str]]:
    precision: Precision = "fp32" if "fp32" in graphs else next(iter(graphs))
    return list(graphs[precision].parts().items())


def _write_tokenizer(path: Path) -> None:
    tokenizer = TokenizerFile(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        ["reach the red cube\n", "pick up the green cube\n", "put the blue cube on the table\n"] * 4,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<pad>", "<bos>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.save(str(path))


def _encode_graph(
    cameras: int, size: int, max_tokens: int, state_in_text: bool, dtype: np.dtype[Any]
) -> onnx.ModelProto:
    """Prefix positions: one per camera (its mean pixel), one per token (its scaled id), the state or zeros."""
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    length = cameras + max_tokens + 1
    constants: dict[str, NDArray[Any]] = {
        "pixel_axes": np.array([1, 2, 3], np.int64),
        "pixel_rows": np.array([1, 1, cameras, 1], np.int64),
        "pixel_wide": np.array([1, 1, cameras, WIDTH], np.int64),
        "token_rows": np.array([1, 1, max_tokens, 1], np.int64),
        "token_wide": np.array([1, 1, max_tokens, WIDTH], np.int64),
        "state_row": np.array([1, 1, 1, WIDTH], np.int64),
        "token_scale": np.array(1 / VOCABULARY, dtype),
        "half": np.array(0.5, dtype),
        "always": np.ones((1, cameras), bool),
        "always_state": np.ones((1, 1), bool),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=kind),
        helper.make_node("ReduceMean", ["pixels", "pixel_axes"], ["brightness"]),
        helper.make_node("Reshape", ["brightness", "pixel_rows"], ["brightness_rows"]),
        helper.make_node("Expand", ["brightness_rows", "pixel_wide"], ["camera_part"]),
        helper.make_node("Cast", ["tokens"], ["token_numbers"], to=kind),
        helper.make_node("Mul", ["token_numbers", "token_scale"], ["token_values"]),
        helper.make_node("Reshape", ["token_values", "token_rows"], ["token_value_rows"]),
        helper.make_node("Expand", ["token_value_rows", "token_wide"], ["token_part"]),
        helper.make_node("Cast", ["state"], ["state_numbers"], to=kind),
        helper.make_node("Reshape", ["state_numbers", "state_row"], ["state_part"]),
        helper.make_node("Concat", ["camera_part", "token_part", "state_part"], ["key_00"], axis=2),
        helper.make_node("Mul", ["key_00", "half"], ["value_00"]),
        helper.make_node("Concat", ["always", "token_mask", "always_state"], ["prefix_mask"], axis=1),
    ]
    inputs: dict[str, tuple[int, tuple[int, ...]]] = {
        "images": (TensorProto.FLOAT, (cameras, 3, size, size)),
        "tokens": (TensorProto.INT32, (1, max_tokens)),
        "token_mask": (TensorProto.BOOL, (1, max_tokens)),
    }
    if state_in_text:
        constants["state"] = np.zeros((1, WIDTH), np.float32)
    else:
        inputs["state"] = (TensorProto.FLOAT, (1, WIDTH))
    return _model(
        "encode",
        nodes,
        constants,
        inputs=inputs,
        outputs={
            "prefix_mask": (TensorProto.BOOL, (1, length)),
            "key_00": (kind, (1, 1, length, WIDTH)),
            "value_00": (kind, (1, 1, length, WIDTH)),
        },
    )


def _step_graph(
    length: int, horizon: int, ramp: float, goal: Sequence[float] | None, dtype: np.dtype[Any], steered: bool
) -> onnx.ModelProto:
    """Velocity (x - target) / (t + 0.01): the straight path to the target, keeping a hundredth of the noise.

    Steered, by the same straight path: its end is x̂ = x - t velocity, whose Jacobian is 0.01 / (t + 0.01).
    """
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    drift = np.zeros((1, horizon, WIDTH))
    drift[0, :, :6] = np.linspace(0, ramp, horizon)[:, None] / np.array(STD[:6])
    if goal is not None:
        drift[0, :, :7] = (np.array(goal) - MEAN) / STD
    constants: dict[str, NDArray[Any]] = {
        "mask_shape": np.array([1, 1, length, 1], np.int64),
        "positions": np.array([2], np.int64),
        "heads": np.array([1], np.int64),
        "state_start": np.array([length - 1], np.int64),
        "state_end": np.array([length], np.int64),
        "thousandth": np.array(1e-3, np.float32),
        "whole": np.array(2 if goal is None else 0, np.float32),
        "soft": np.array(0.01, np.float32),
        "drift": drift.astype(np.float32),
        "time_shape": np.array([1, 1, 1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["prefix_mask"], ["mask_numbers"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["key_00"], ["key"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["value_00"], ["value"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["mask_numbers", "mask_shape"], ["mask"]),
        helper.make_node("Mul", ["key", "mask"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "positions"], ["seen_sum"], keepdims=0),
        helper.make_node("Mul", ["seen_sum", "thousandth"], ["context"]),
        helper.make_node("Slice", ["value", "state_start", "state_end", "positions"], ["half_state"]),
        helper.make_node("Mul", ["half_state", "whole"], ["state_row"]),
        helper.make_node("Squeeze", ["state_row", "heads"], ["state"]),
        helper.make_node("Add", ["state", "drift"], ["ahead"]),
        helper.make_node("Add", ["ahead", "context"], ["target"]),
        helper.make_node("Reshape", ["time", "time_shape"], ["t"]),
        helper.make_node("Reshape", ["next_time", "time_shape"], ["next_t"]),
        helper.make_node("Sub", ["chunk", "target"], ["way"]),
        helper.make_node("Add", ["t", "soft"], ["duration"]),
        helper.make_node("Div", ["way", "duration"], ["velocity"]),
        helper.make_node("Sub", ["next_t", "t"], ["dt"]),
        *(_steering() if steered else ()),
        helper.make_node("Mul", ["dt", "steered" if steered else "velocity"], ["change"]),
        helper.make_node("Add", ["chunk", "change"], ["next_chunk"]),
    ]
    if steered:
        constants |= {"one": np.array(1, np.float32), "least": np.array(1e-9, np.float32)}
    chunk, time = (TensorProto.FLOAT, (1, horizon, WIDTH)), (TensorProto.FLOAT, (1,))
    towards = {"previous": chunk, "weights": (TensorProto.FLOAT, (1, horizon, 1)), "beta": time}
    return _model(
        "guided" if steered else "denoise",
        nodes,
        constants,
        inputs={
            "chunk": chunk,
            "time": time,
            "next_time": time,
            **(towards if steered else {}),
            "prefix_mask": (TensorProto.BOOL, (1, length)),
            "key_00": (kind, (1, 1, length, WIDTH)),
            "value_00": (kind, (1, 1, length, WIDTH)),
        },
        outputs={"next_chunk": (TensorProto.FLOAT, (1, horizon, WIDTH))},
    )


def _steering() -> list[onnx.NodeProto]:
    """velocity - min(beta, (t² + (1 - t)²) / (t (1 - t))) · 0.01 / (t + 0.01) · weights · (previous - x̂)."""
    return [
        helper.make_node("Mul", ["t", "velocity"], ["rest"]),
        helper.make_node("Sub", ["chunk", "rest"], ["clean"]),
        helper.make_node("Sub", ["previous", "clean"], ["error"]),
        helper.make_node("Mul", ["weights", "error"], ["weighted"]),
        helper.make_node("Div", ["soft", "duration"], ["jacobian"]),
        helper.make_node("Mul", ["jacobian", "weighted"], ["correction"]),
        helper.make_node("Sub", ["one", "t"], ["action_share"]),
        helper.make_node("Mul", ["t", "t"], ["noise_square"]),
        helper.make_node("Mul", ["action_share", "action_share"], ["action_square"]),
        helper.make_node("Add", ["noise_square", "action_square"], ["squares"]),
        helper.make_node("Mul", ["t", "action_share"], ["product"]),
        helper.make_node("Max", ["product", "least"], ["both"]),
        helper.make_node("Div", ["squares", "both"], ["unbounded"]),
        helper.make_node("Min", ["unbounded", "beta"], ["strength"]),
        helper.make_node("Mul", ["strength", "correction"], ["pull"]),
        helper.make_node("Sub", ["velocity", "pull"], ["steered"]),
    ]


Tensors = Mapping[str, tuple[int, tuple[int, ...]]]


def _model(
    name: str, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], inputs: Tensors, outputs: Tensors
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _golden(files: dict[Part, Path], horizon: int, flow_steps: int) -> list[GoldenSample]:
    run = {part: ReferenceEvaluator(onnx.load(file)) for part, file in files.items()}
    encode, denoise = run["encode"], run["denoise"]
    shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in encode.proto_.graph.input}
    max_tokens = shapes["tokens"][1]
    rng = np.random.default_rng(0)
    samples = []
    for length in (6, max_tokens):
        inputs = {
            "images": rng.uniform(-1, 1, shapes["images"]).astype(np.float32),
            "tokens": rng.integers(1, VOCABULARY, (1, max_tokens)).astype(np.int32),
            "token_mask": np.arange(max_tokens)[None] < length,
        }
        if "state" in shapes:
            inputs["state"] = rng.normal(size=(1, WIDTH)).astype(np.float32)
        prefix = dict(zip(("prefix_mask", "key_00", "value_00"), encode.run(None, inputs), strict=True))
        noise = rng.normal(size=(1, horizon, WIDTH)).astype(np.float32)
        chunks = [noise]
        for step in range(flow_steps):
            times = {
                "time": np.array([1 - step / flow_steps], np.float32),
                "next_time": np.array([1 - (step + 1) / flow_steps], np.float32),
            }
            (next_chunk,) = denoise.run(None, {"chunk": chunks[-1], **times, **prefix})
            chunks.append(np.asarray(next_chunk))
        steered = _steered(run["guided"], denoise, prefix, noise, rng) if "guided" in run else None
        samples.append(GoldenSample(inputs, noise, prefix, step=chunks[1], chunk=chunks[-1], guided=steered))
    return samples


def _steered(
    guided: ReferenceEvaluator,
    denoise: ReferenceEvaluator,
    prefix: dict[str, NDArray[Any]],
    noise: NDArray[np.float32],
    rng: np.random.Generator,
) -> GuidedStep:
    step = {"chunk": noise, "time": np.array([0.1], np.float32), "next_time": np.array([0.05], np.float32)}
    towards = {
        "previous": rng.normal(size=noise.shape).astype(np.float32),
        "weights": np.linspace(1, 0, noise.shape[1], dtype=np.float32)[None, :, None],
        "beta": np.array([5], np.float32),
    }
    (free,), (next_chunk,) = denoise.run(None, step | prefix), guided.run(None, step | towards | prefix)
    return GuidedStep(**step, **towards, free=np.asarray(free), next_chunk=np.asarray(next_chunk))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a toy policy bundle.")
    parser.add_argument("target", type=Path)
    print(write_toy_bundle(parser.parse_args().target))
