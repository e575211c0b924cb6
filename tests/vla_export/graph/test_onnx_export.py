"""Exported graphs compute what PyTorch computes, hold every weight once and say nothing of the exporting machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor

from vla_export.graph.onnx_export import export_graphs
from vla_export.models.blocks import Stack
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.manifest import Precision
from vla_runtime.bundle.parity import compare
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import WorkFailed

PREFIX = ["prefix_mask", "key_00", "value_00", "key_01", "value_01"]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
@pytest.mark.parametrize("policy", ["exported", "routed"])
def test_onnx_runtime_computes_what_pytorch_computes(policy, precision, tolerance, request):
    bundle = request.getfixturevalue(policy).bundle
    goldens = read_golden(bundle.path("golden.safetensors"))
    found = compare(OnnxRuntimeEngine(bundle, precision, threads=1), goldens, bundle.manifest.flow_steps)
    assert max(found.prefix, found.step, found.chunk) <= tolerance, found
    assert found.prefix > 0, "an engine that is compared with itself cannot fail"


@pytest.mark.parametrize(("precision", "kept"), [("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)])
def test_tensors_are_the_manifests(exported, precision, kept):
    encode, denoise = (graph(exported, precision, part) for part in ("encode", "denoise"))
    prefix = {"prefix_mask": (TensorProto.BOOL, (1, 13))}
    prefix |= dict.fromkeys(PREFIX[1:], (kept, (1, 1, 13, 8)))
    chunk = (TensorProto.FLOAT, (1, 5, 8))
    time = (TensorProto.FLOAT, (1,))
    assert tensors(encode.input) == {
        "images": (TensorProto.FLOAT, (2, 3, 8, 8)),
        "tokens": (TensorProto.INT32, (1, 4)),
        "token_mask": (TensorProto.BOOL, (1, 4)),
        "state": (TensorProto.FLOAT, (1, 8)),
    }
    assert tensors(encode.output) == prefix
    assert tensors(denoise.input) == {"chunk": chunk, "time": time, "next_time": time, **prefix}
    assert tensors(denoise.output) == {"next_chunk": chunk}


def test_every_weight_is_stored_once(exported):
    parameters = sum(p.numel() * 4 for p in exported.model.parameters())
    for precision, most in (("fp32", 1.0), ("fp16", 0.6)):
        for part in ("encode", "denoise"):
            weights = [numpy_helper.to_array(t) for t in graph(exported, precision, part).initializer]
            large = [w for w in weights if w.size > 64]
            stored = {(w.shape, w.tobytes()) for w in large}
            assert len(stored) == len(large)
            assert stored.isdisjoint((w.T.shape, w.T.tobytes()) for w in large)
            assert sum(w.nbytes for w in weights) <= most * parameters


def test_a_weight_of_both_graphs_is_stored_once(exported):
    for folder in ("", "fp16/"):
        held = {}
        for part in ("encode", "denoise"):
            path = exported.bundle.path(f"{folder}{part}.onnx")
            for tensor in onnx.load(path, load_external_data=False).graph.initializer:
                where = {entry.key: entry.value for entry in tensor.external_data}
                if where:
                    held.setdefault(tensor.name, {})[part] = (where["location"], where["offset"])
        shared = {name: places for name, places in held.items() if len(places) == 2}
        assert any(name.startswith("expert.layers.0.mlp") for name in shared)
        for places in shared.values():
            assert places["encode"] == places["denoise"]
        alone = {name for name, places in held.items() if set(places) == {"denoise"}}
        assert any(name.startswith("action_out_proj") for name in alone)


def test_half_graphs_keep_half_weights_and_never_cast_one(exported):
    for part in ("encode", "denoise"):
        found = graph(exported, "fp16", part)
        weights = {t.name: t.data_type for t in found.initializer if ".weight" in t.name and len(t.dims) > 1}
        edges = {name for name in weights if name.startswith(("state_", "action_"))}
        assert {weights[name] for name in edges} == {TensorProto.FLOAT}
        assert {weights[name] for name in weights.keys() - edges} == {TensorProto.FLOAT16}
        assert not {n.input[0] for n in found.node if n.op_type == "Cast"} & {t.name for t in found.initializer}


def test_no_float64_anywhere(exported):
    for precision in ("fp32", "fp16"):
        for part in ("encode", "denoise"):
            found = graph(exported, precision, part)
            types = {t.data_type for t in found.initializer}
            types |= {a.i for n in found.node if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
            assert TensorProto.DOUBLE not in types


def test_nodes_are_named_for_their_module(exported):
    found = graph(exported, "fp16", "denoise")
    names = [node.name for node in found.node]
    assert len(set(names)) == len(names)
    assert {"action_in_proj/MatMul", "expert.layers.1.mlp.down_proj/MatMul"} <= set(names)


def test_each_graph_has_its_weights_beside_it(exported):
    files = set(exported.bundle.manifest.files)
    graphs = {f"{folder}{part}.onnx" for folder in ("", "fp16/") for part in ("encode", "denoise")}
    assert files == graphs | {f"{name}.data" for name in graphs} | {"golden.safetensors", "tokenizer.json"}


def test_nothing_is_told_of_the_exporting_machine(exported):
    for name in exported.bundle.manifest.files:
        if name.endswith(".onnx"):
            content = exported.bundle.path(name).read_bytes()
            for trace in (b".py", b"/home", b"/tmp", b"pkg.torch", b"vla_export.models", str(Path.cwd()).encode()):
                assert trace not in content, (name, trace)


def test_the_same_weights_give_the_same_bytes(exported, tmp_path):
    progress = []
    graphs = export_graphs(exported.model, exported.samples[0], tmp_path, progress=lambda: progress.append(1))
    assert len(progress) == 2
    for name in (graphs.encode, graphs.denoise, f"{graphs.encode}.data", f"{graphs.denoise}.data"):
        assert (tmp_path / name).read_bytes() == exported.bundle.path(name).read_bytes()


class Averager(FlowModel):
    """The smallest policy: it never looks at its state; ``product`` computes in the type it is told to."""

    def __init__(self, dtype: torch.dtype = torch.float32, branch: bool = False) -> None:
        super().__init__()
        self.dtype, self.branch = dtype, branch

    def stacks(self) -> dict[str, Stack]:
        return {}

    def coupled(self) -> tuple[tuple[str, ...], ...]:
        return ()

    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        key = (observed["images"].mean() + observed["tokens"].float().mean())[None, None, None, None]
        token_mask = observed["token_mask"]
        if self.branch and key.sum() > 0:
            key = key + 1
        return {"prefix_mask": token_mask.logical_not().logical_not(), "key_00": key, "value_00": key * 2}

    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        grown = (chunk.to(self.dtype) * 0.1234).float()
        return grown + prefix["key_00"].sum() + prefix["value_00"].sum() + prefix["prefix_mask"].sum()


def sample() -> Sample:
    observed = {
        "images": torch.rand(1, 3, 4, 4),
        "tokens": torch.ones(1, 4).int(),
        "token_mask": torch.ones(1, 4).bool(),
        "state": torch.ones(1, 2),
    }
    return Sample(observed, torch.ones(1, 3, 2))


def test_an_input_that_nothing_reads_stays(tmp_path):
    graphs = export_graphs(Averager(), sample(), tmp_path)
    found = onnx.load(tmp_path / graphs.encode).graph
    assert [value.name for value in found.input] == ["images", "tokens", "token_mask", "state"]
    assert [value.name for value in found.output] == ["prefix_mask", "key_00", "value_00"]


def test_float64_is_refused_by_name(tmp_path):
    with pytest.raises(WorkFailed, match="float64, which TensorRT lacks"):
        export_graphs(Averager(torch.float64), sample(), tmp_path)


def test_a_model_that_cannot_be_traced_fails_in_one_line(tmp_path):
    with pytest.raises(WorkFailed, match="encode cannot be exported to ONNX") as error:
        export_graphs(Averager(branch=True), sample(), tmp_path)
    assert "\n" not in str(error.value)


def graph(exported, precision: Precision, part: str) -> onnx.GraphProto:
    return onnx.load(exported.bundle.path(getattr(exported.bundle.manifest.graphs[precision], part))).graph


def tensors(values) -> dict[str, tuple[int, tuple[int, ...]]]:
    return {
        v.name: (v.type.tensor_type.elem_type, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values
    }
