"""Weights lie beside their graph, each once, and two graphs share what both hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from vla_export.graph.weight_files import PAGE, store_weights

A = np.arange(1000, dtype=np.float32)
B = np.arange(600, dtype=np.float16).reshape(2, 300)


def graph(**weights: np.ndarray) -> ir.Graph:
    values = [ir.Value(name=name, const_value=ir.tensor(array, name="other")) for name, array in weights.items()]
    return ir.Graph(inputs=[], outputs=[], nodes=[], initializers=values, opset_imports={"": 18}, name="g")


def saved(directory: Path, name: str, held: ir.Graph) -> dict[str, np.ndarray]:
    ir.save(ir.Model(held, ir_version=10), directory / name)
    return {t.name: numpy_helper.to_array(t, str(directory)) for t in onnx.load(directory / name).graph.initializer}


def locations(directory: Path, name: str) -> dict[str, str]:
    content = onnx.load(directory / name, load_external_data=False).graph
    return {t.name: next((e.value for e in t.external_data if e.key == "location"), "") for t in content.initializer}


def test_weights_come_back(tmp_path: Path) -> None:
    held = graph(a=A, b=B, small=A[:3])
    stored = store_weights(held, tmp_path, "one.data", {})
    assert set(stored) == {"a", "b"}
    assert all(tensor.offset % PAGE == 0 for tensor in stored.values() if tensor.nbytes > PAGE)
    found = saved(tmp_path, "one.onnx", held)
    assert all(np.array_equal(found[name], array) for name, array in (("a", A), ("b", B), ("small", A[:3])))
    assert locations(tmp_path, "one.onnx") == {"a": "one.data", "b": "one.data", "small": ""}


def test_what_both_hold_is_stored_once(tmp_path: Path) -> None:
    stored = store_weights(graph(a=A, b=B), tmp_path, "one.data", {})
    second = graph(b=B, c=A + 1)
    assert set(store_weights(second, tmp_path, "two.data", stored)) == {"c"}
    found = saved(tmp_path, "two.onnx", second)
    assert np.array_equal(found["b"], B)
    assert np.array_equal(found["c"], A + 1)
    assert locations(tmp_path, "two.onnx") == {"b": "one.data", "c": "two.data"}
    assert (tmp_path / "two.data").stat().st_size == A.nbytes


@pytest.mark.parametrize("other", [A + 1, A[:500], A.astype(np.float16), A.reshape(10, 100)])
def test_the_same_name_for_another_weight_shares_nothing(tmp_path: Path, other: np.ndarray) -> None:
    stored = store_weights(graph(a=A), tmp_path, "one.data", {})
    second = graph(a=other)
    store_weights(second, tmp_path, "two.data", stored)
    found = saved(tmp_path, "two.onnx", second)["a"]
    assert found.dtype == other.dtype
    assert np.array_equal(found, other)
