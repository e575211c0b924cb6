"""The report's numbers are those of the files."""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from vla_export.graph.summary import summarise


def test_numbers_are_those_of_the_file(exported):
    path = exported.bundle.path("fp16/denoise.onnx")
    summary = summarise(path)
    graph = onnx.load(path).graph
    assert summary.nodes == sum(summary.operators.values()) == len(graph.node)
    assert summary.operators["Softmax"] == 2
    # graph and data together: every constant above 256 bytes is in the data, nothing else is
    large = sum(n for n in (numpy_helper.to_array(t, str(path.parent)).nbytes for t in graph.initializer) if n > 256)
    assert summary.file_bytes == path.stat().st_size + large
    assert set(summary.weight_bytes) >= {"float16", "float32"}
    expert = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24)
    assert summary.weight_bytes["float16"] >= 2 * expert
    assert summary.weight_bytes["float16"] < 2 * expert + 64


def test_half_halves_the_weights(exported):
    sizes = {p: summarise(exported.bundle.path(f"{p}encode.onnx")).weight_bytes for p in ("", "fp16/")}
    assert sizes["fp16/"]["float16"] < 0.5 * sizes[""]["float32"]
    assert sizes["fp16/"]["float32"] < 0.3 * sizes[""]["float32"]
