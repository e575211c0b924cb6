"""Layers that are memory alone, as ONNX: what they no longer compute is in no graph, and the prefix is the same."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

from tests.vla_export.models.tiny_families import FAMILIES, random_samples, relative_error
from vla_export.graph.onnx_export import export_graphs
from vla_export.prune.surgery import keep_memory


@pytest.mark.parametrize("family", sorted(FAMILIES))
@torch.no_grad()
def test_the_graph_of_reduced_layers_computes_the_same_prefix(family: str, tmp_path: Path) -> None:
    model = FAMILIES[family]()
    keep_memory(model, "language", {0, 2})
    traced_on, sample = random_samples(family, 2)
    graphs = export_graphs(model, traced_on, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / graphs.encode)
    inputs = {name: tensor.numpy() for name, tensor in sample.observed.items()}
    found = dict(zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True))
    expected = model.encode(sample.observed)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert relative_error(torch.from_numpy(found[name]).float(), tensor.float()) < 1e-5

    stored = {i.name for i in onnx.load(tmp_path / graphs.encode, load_external_data=False).graph.initializer}
    assert any("language.layers.0.attention.k_proj" in name for name in stored)
    left = [name for name in stored if "language.layers.0." in name or "language.layers.2." in name]
    assert not any(gone in name for name in left for gone in ("q_proj", "o_proj", "mlp", "post_norm"))
