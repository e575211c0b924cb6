"""What an exported graph is made of, in numbers for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto


@dataclass(frozen=True)
class GraphSummary:
    """One ONNX graph. operators: nodes by operator, most frequent first. weight_bytes: size of constants by type.

    file_bytes: the graph and its weights together, on disk; weights that two graphs share count in both.
    """

    nodes: int
    operators: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    file_bytes: int


def summarise(path: Path) -> GraphSummary:
    """Count one graph without reading its weights."""
    graph = onnx.load(path, load_external_data=False).graph
    weight_bytes: Counter[str] = Counter()
    external = 0
    for tensor in graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        weight_bytes[dtype.name] += prod(tensor.dims) * dtype.itemsize
        if tensor.data_location == TensorProto.EXTERNAL:
            external += sum(int(entry.value) for entry in tensor.external_data if entry.key == "length")
    return GraphSummary(
        nodes=len(graph.node),
        operators=dict(Counter(node.op_type for node in graph.node).most_common()),
        weight_bytes=dict(weight_bytes.most_common()),
        file_bytes=path.stat().st_size + external,
    )
