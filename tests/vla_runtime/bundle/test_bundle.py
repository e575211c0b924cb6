"""A bundle is used whole and unchanged, or not at all."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle.bundle import Bundle, sha256
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput

OLD_ONNX_RUNTIME = tuple(map(int, onnxruntime.__version__.split(".")[:2])) <= (1, 23)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_toy_bundle(tmp_path / "toy")


def edit_manifest(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    fields = json.loads((root / "manifest.json").read_text())
    change(fields)
    (root / "manifest.json").write_text(json.dumps(fields))


def add_file(root: Path, name: str, content: bytes) -> None:
    (root / name).write_bytes(content)
    edit_manifest(root, lambda fields: fields["files"].update({name: sha256(root / name)}))


def test_an_untouched_bundle_opens(root: Path) -> None:
    bundle = Bundle.open(root)
    assert bundle.manifest.family == "toy"
    assert bundle.path("encode.onnx") == root / "encode.onnx"
    with pytest.raises(BadInput, match=r"no file 'other.onnx'"):
        bundle.path("other.onnx")


@pytest.mark.parametrize("name", ["encode.onnx", "denoise.onnx", "golden.safetensors", "tokenizer.json"])
def test_a_flipped_bit_is_found_in_every_file(root: Path, name: str) -> None:
    content = bytearray((root / name).read_bytes())
    content[len(content) // 2] ^= 1
    (root / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"{name} is not the file that was exported"):
        Bundle.open(root)


def test_a_missing_file(root: Path) -> None:
    (root / "denoise.onnx").unlink()
    with pytest.raises(BadInput, match=r"denoise.onnx is missing"):
        Bundle.open(root)


def test_an_unlisted_file(root: Path) -> None:
    (root / "report").mkdir()
    (root / "report" / "extra.html").write_text("<p>")
    with pytest.raises(BadInput, match=r"report/extra.html is not listed"):
        Bundle.open(root)


@pytest.mark.parametrize("version", [3, 1, "2", None])
def test_another_schema_version(root: Path, version: Any) -> None:
    edit_manifest(root, lambda fields: fields.update(schema_version=version))
    with pytest.raises(BadInput, match=r"this runtime knows 2: update vla-deploy"):
        Bundle.open(root)


@pytest.mark.parametrize("path", ["../encode.onnx", "/etc/passwd", "a/../../b", "C:/x", "a\\..\\b", ""])
def test_paths_that_leave_the_bundle(root: Path, path: str) -> None:
    edit_manifest(root, lambda fields: fields["files"].update({path: "0" * 64}))
    with pytest.raises(BadInput, match="not a path inside the bundle"):
        Bundle.open(root)


def test_a_graph_named_outside_the_bundle(root: Path) -> None:
    edit_manifest(root, lambda fields: fields["graphs"]["fp32"].update(encode="../encode.onnx"))
    with pytest.raises(BadInput, match="graphs.fp32.encode.*not a path inside the bundle"):
        Bundle.open(root)


@pytest.mark.parametrize("inside", [True, False])
def test_links(root: Path, inside: bool) -> None:
    target = root / "tokenizer.json"
    if not inside:
        target = target.rename(root.parent / "tokenizer.json")
        (root / "tokenizer.json").symlink_to(target)
    else:
        (root / "link.json").symlink_to(target)
    with pytest.raises(BadInput, match="is a link"):
        Bundle.open(root)


def test_a_linked_directory(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="report is a link"):
        Bundle.open(root)


def test_the_bundle_itself_may_be_reached_by_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(root)
    assert Bundle.open(tmp_path / "latest").manifest == Bundle.open(root).manifest


@pytest.mark.parametrize("name", ["weights.bin", "report/data.json"])
def test_a_pickle_under_any_name(root: Path, name: str) -> None:
    (root / "report").mkdir()
    add_file(root, name, pickle.dumps({"weights": np.zeros(3)}))
    with pytest.raises(BadInput, match=f"{name} is a pickle"):
        Bundle.open(root)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"schema_version": 2}', "Field required"),
    ],
)
def test_a_broken_manifest(root: Path, content: bytes, complaint: str) -> None:
    (root / "manifest.json").write_bytes(content)
    with pytest.raises(BadInput, match=complaint):
        Bundle.open(root)


def test_fields_nobody_knows_are_refused(root: Path) -> None:
    edit_manifest(root, lambda fields: fields["cameras"][0].update(flipped=True))
    with pytest.raises(BadInput, match=r"cameras.0.flipped: Extra inputs"):
        Bundle.open(root)


@pytest.mark.parametrize("path", ["nowhere", "."])
def test_what_is_no_bundle(tmp_path: Path, path: str) -> None:
    with pytest.raises(BadInput, match=r"no manifest.json; make one with vla-export"):
        Bundle.open(tmp_path / path)


def external_graph(location: str) -> bytes:
    """A graph y = x + w whose w lies in another file."""
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, location)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "external",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_weights_beside_the_graph_are_accepted(root: Path) -> None:
    (root / "extra").mkdir()
    add_file(root, "extra/weights.data", np.arange(4, dtype=np.float32).tobytes())
    add_file(root, "extra/graph.onnx", external_graph("weights.data"))
    Bundle.open(root)


@pytest.mark.parametrize("location", ["../weights.data", "/etc/hostname", "unlisted.data", f"{'long/' * 60}../w"])
def test_weights_outside_the_bundle_are_refused(root: Path, location: str) -> None:
    (root.parent / "weights.data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    add_file(root, "graph.onnx", external_graph(location))
    with pytest.raises(BadInput, match=r"graph.onnx keeps weights in"):
        Bundle.open(root)


@pytest.mark.skipif(OLD_ONNX_RUNTIME, reason="this ONNX Runtime follows such paths; opening the bundle refuses them")
def test_onnxruntime_refuses_weights_outside_the_bundle_too(root: Path) -> None:
    (root.parent / "weights.data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    manifest = Bundle.open(root).manifest
    (root / "encode.onnx").write_bytes(external_graph("../weights.data"))
    with pytest.raises(BadInput, match="ONNX Runtime .* cannot load"):
        OnnxRuntimeEngine(Bundle(root, manifest))
