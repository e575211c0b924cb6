"""int8: linears whose weights are eight bits, and so is what they multiply, for ONNX Runtime on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from vla_export.graph.fused_attention import fuse_attention
from vla_export.graph.weight_files import store_weights
from vla_export.progress import Advance
from vla_runtime.bundle.manifest import Graphs
from vla_runtime.engines.tensorrt_types import is_float32_by_design
from vla_runtime.errors import WorkFailed

# -128 is left out, so that zero is in the middle and needs no correction.
_LARGEST = 127
# What is divided by where all numbers are zero.
_SMALLEST = 1e-30
# What a gated MLP multiplies is the product of two activations, and now and then one token's is a thousand times the
# others' (arXiv 2405.14428): with one scale for all tokens, nothing would be left of those.
_SPIKING = ".down_proj"


def quantise(graphs: Graphs, directory: Path, progress: Advance | None = None) -> Graphs:
    """Make int8 graphs of float32 ones: ``int8/encode.onnx`` and ``int8/denoise.onnx``, their weights beside them.

    Every linear but the policy's edges (`is_float32_by_design`) becomes a product of integers, y = (q - z) W8 * s * S:
    W8, S: its weights rounded to int8 and one scale per output, the largest of whose weights becomes ±127;
    q, z, s: its input rounded to uint8, with zero point and scale found at run time (ONNX's DynamicQuantizeLinear), the
    same for all tokens; a gated MLP's ``down_proj`` first divides each token by its largest number.
    Signed weights and unsigned inputs are what VNNI and AMX multiply. Norms, softmax, rotations, embeddings,
    convolutions, sums and the tensors of the manifest stay float32.

    graphs: the float32 graphs, relative to ``directory``, as `export_graphs` wrote them. The int8 ones use an operator
    of ONNX Runtime's own (`fuse_attention`): no other engine takes them. Weights keep their names. One weight at a time
    is in memory. The same graphs give the same bytes. ``progress`` is called after each of the two.

    Raises `WorkFailed` where the result is no valid ONNX. Returns the new graphs' paths relative to ``directory``.
    """
    quantised = Graphs(encode="int8/encode.onnx", denoise="int8/denoise.onnx")
    (directory / quantised.encode).parent.mkdir(parents=True, exist_ok=True)
    stored: Mapping[str, ir.ExternalTensor] = {}
    for source, target in ((graphs.encode, quantised.encode), (graphs.denoise, quantised.denoise)):
        stored = _write(_quantised(ir.load(directory / source)), directory / target, stored)
        if progress is not None:
            progress()
    return quantised


def _quantised(model: ir.Model) -> ir.Model:
    fuse_attention(model)
    graph = model.graph
    names = {node.name for node in graph}
    levels: dict[ir.Value, tuple[ir.Value, ...]] = {}
    for linear in [_Linear(node, names) for node in graph if _is_linear(node)]:
        _replace(graph, linear, levels)
    passes.RemoveUnusedNodesPass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    return model


def _is_linear(node: ir.Node) -> bool:
    """Whether a node multiplies by the weight of a linear, as `onnx_cleaning` names it, and is to be quantised."""
    weight = node.inputs[1] if node.op_type == "MatMul" else None
    if weight is None or not weight.is_initializer() or not str(weight.name).endswith(".weight.T"):
        return False
    return not is_float32_by_design(str(weight.name))


class _Linear:
    """One product by a linear's weight, and the nodes that take its place."""

    def __init__(self, node: ir.Node, names: set[str | None]) -> None:
        self.node, self.new, self._names = node, list[ir.Node](), names
        self.module = str(node.name).rpartition("/")[0]
        x, weight = node.inputs
        assert x is not None
        assert weight is not None
        assert weight.const_value is not None
        self.x, self.weight, self.values = x, weight, weight.const_value

    def add(self, operator: str, *inputs: ir.Value, outputs: int = 1, **attributes: int) -> tuple[ir.Value, ...]:
        """A node named for the linear's module."""
        name, n = f"{self.module}/{operator}", 1
        while name in self._names:
            n += 1
            name = f"{self.module}/{operator}_{n}"
        self._names.add(name)
        self.new.append(ir.node(operator, inputs, attributes=attributes, num_outputs=outputs, name=name))
        return tuple(self.new[-1].outputs)


def _replace(graph: ir.Graph, linear: _Linear, levels: dict[ir.Value, tuple[ir.Value, ...]]) -> None:
    """Put integers where a linear's product was; ``levels``: what was quantised before, for those that read it too."""
    x = linear.x
    tokens = _tokens(graph, linear) if _SPIKING in linear.module else None
    if tokens is not None:
        (x,) = linear.add("Div", x, tokens)
    if x not in levels:
        levels[x] = linear.add("DynamicQuantizeLinear", x, outputs=3)
    rounded, x_scale, zero = levels[x]
    w_rounded, w_scale = _weight(graph, linear)
    (product,) = linear.add("MatMulInteger", rounded, w_rounded, zero)
    (scale,) = linear.add("Mul", x_scale, w_scale)
    (floats,) = linear.add("Cast", product, to=ir.DataType.FLOAT)
    (y,) = linear.add("Mul", floats, scale)  # in this order: ONNX Runtime makes one operator of the last five
    if tokens is not None:
        (y,) = linear.add("Mul", y, tokens)
    ir.convenience.replace_nodes_and_values(graph, linear.node, [linear.node], linear.new, linear.node.outputs, [y])


def _tokens(graph: ir.Graph, linear: _Linear) -> ir.Value:
    """The largest magnitude of each token's numbers, (..., tokens, 1)."""
    (magnitudes,) = linear.add("Abs", linear.x)
    axis = _initializer(graph, "last_axis", ir.tensor(np.array([-1], np.int64)))
    (largest,) = linear.add("ReduceMax", magnitudes, axis, keepdims=1)
    floor = _initializer(graph, "smallest", ir.tensor(np.array(_SMALLEST, np.float32)))
    (positive,) = linear.add("Max", largest, floor)
    return positive


def _weight(graph: ir.Graph, linear: _Linear) -> tuple[ir.Value, ir.Value]:
    """The rounded weight, under the name of the exact one, and its scales; both computed when they are written."""
    name, values = str(linear.weight.name), linear.values
    size = values.shape.numpy()
    if graph.initializers[name] is linear.weight:
        del graph.initializers[name]
    rounded = ir.LazyTensor(lambda: ir.tensor(_rounded(values)), ir.DataType.INT8, ir.Shape(size))
    scales = ir.LazyTensor(lambda: ir.tensor(_scales(_read(values))), ir.DataType.FLOAT, ir.Shape(size[1:]))
    return _initializer(graph, name, rounded), _initializer(graph, f"{name}.scale", scales)


def _initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    if name not in graph.initializers:
        shape, dtype = ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
        graph.register_initializer(ir.Value(name=name, shape=shape, type=dtype, const_value=tensor))
    return graph.initializers[name]


def _rounded(weight: ir.TensorProtocol) -> NDArray[np.int8]:
    values = _read(weight)
    return np.rint(values / _scales(values)).astype(np.int8)


def _scales(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a weight (inputs, outputs), one per output."""
    return np.maximum(np.abs(values).max(axis=0), np.float32(_SMALLEST)) / np.float32(_LARGEST)


def _read(weight: ir.TensorProtocol) -> NDArray[np.float32]:
    """A copy of a weight, without its file staying mapped into memory."""
    values = np.array(weight.numpy())
    if isinstance(weight, ir.ExternalTensor):
        weight.release()
    return values


def _write(model: ir.Model, path: Path, stored: Mapping[str, ir.ExternalTensor]) -> dict[str, ir.ExternalTensor]:
    written = store_weights(model.graph, path.parent, f"{path.name}.data", stored)
    ir.save(model, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise WorkFailed(f"{path.name} in int8 is not valid ONNX: {error}") from error
    return written
