"""A policy of uneven groups and widths as ONNX, in ONNX Runtime and in TensorRT."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.toy_policy import ACTION
from tests.vla_export.adapters.routed_toys import route
from tests.vla_export.models.tiny_families import FLOW_STEPS, random_samples, smolvla
from vla_export.adapters.gating import ExpertGating
from vla_export.graph.goldens import make_goldens
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.flow_model import FlowModel
from vla_export.prune.width import keep_units
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import read_golden, write_golden
from vla_runtime.bundle.manifest import Camera, Manifest, Precision, Provenance, Tokenizer
from vla_runtime.bundle.parity import compare
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.engines.tensorrt import available, build

ROUTED = (
    "language.layers.1.attention.q_proj",
    "language.layers.1.attention.o_proj",
    "language.layers.0.mlp.down_proj",
    "vision.stack.layers.1.mlp.fc1",
)
BOTH: tuple[Precision, Precision] = ("fp32", "fp16")


def narrow() -> FlowModel:
    """Groups of unequal size, one that is empty, layers of different widths, and branches on what was cut."""
    model = smolvla()
    for path in ROUTED:
        route(model, kinds=(path,), gating=ExpertGating([1] * 6, None))
    keep_units(model, "language.heads", [[0, 1, 2, 4], [4, 5], [0, 3, 4, 5], [0, 1, 2, 3, 4, 5]])
    keep_units(model, "language.mlp", [list(range(0, 72, 3)), [1, 5], list(range(40)), list(range(72))])
    keep_units(model, "vision.heads", [[0, 2], [1]])
    keep_units(model, "vision.mlp", [list(range(8)), list(range(5, 21))])
    assert [layer.attention.groups for layer in model.stacks()["language"]] == [(3, 1), (0, 2), (1, 3), (3, 3)]
    return model


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    traced_on, *samples = random_samples("smolvla", 3)
    count, _, height, width = traced_on.observed["images"].shape
    with BundleWriter(tmp_path_factory.mktemp("narrow") / "bundle") as writer:
        write_golden(writer.root / "golden.safetensors", make_goldens(narrow(), samples, FLOW_STEPS))
        graphs = {precision: export_graphs(narrow(), traced_on, writer.root, precision) for precision in BOTH}
        (writer.root / "tokenizer.json").write_text("{}")
        return writer.finish(
            lambda files: Manifest(
                family="smolvla",
                cameras=tuple(Camera(name=f"camera{n}", height=height, width=width) for n in range(count)),
                state=ACTION.model_copy(update={"padded_to": 10}),
                action=ACTION.model_copy(update={"padded_to": 9}),
                horizon=11,
                rate=10.0,
                flow_steps=FLOW_STEPS,
                tokenizer=Tokenizer(file="tokenizer.json", max_length=traced_on.observed["tokens"].shape[1], pad_id=0),
                graphs=graphs,
                provenance=Provenance(exporter="test", checkpoint="test", checkpoint_sha256="0" * 64),
                files=files,
            )
        )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_onnx_runtime_computes_what_pytorch_computes(bundle: Bundle, precision: Precision, tolerance: float) -> None:
    goldens = read_golden(bundle.path("golden.safetensors"))
    found = compare(OnnxRuntimeEngine(bundle, precision, threads=1), goldens, bundle.manifest.flow_steps)
    assert 0 < max(found.prefix, found.step, found.chunk) <= tolerance, found


@pytest.mark.skipif(available() is not None, reason=str(available()))
@pytest.mark.parametrize("precision", BOTH)
def test_tensorrt_builds_both_graphs(
    bundle: Bundle, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert all(plan.stat().st_size > 10_000 for plan in build(bundle, precision))


def test_shapes_are_static_and_only_uneven_groups_repeat_keys(bundle: Bundle) -> None:
    graph = onnx.load(bundle.path("encode.onnx"), load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    assert operators.isdisjoint({"If", "Loop", "NonZero", "ScatterND", "Range"})
    gathered = {node.name.split("/")[0] for node in graph.node if node.op_type == "Gather" and ".layers." in node.name}
    assert gathered == {f"language.layers.{n}" for n in (0, 1, 2)}
