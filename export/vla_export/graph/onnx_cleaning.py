"""What the exporter's graph needs before it ships: folded constants, readable names, each weight once, no traces."""

from __future__ import annotations

import ast
from collections import Counter

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript import optimizer

from vla_export.graph.weight_files import TURNED
from vla_runtime.errors import WorkFailed

_SCOPES = "pkg.torch.onnx.name_scopes"
_WRAPPED = "model"


def clean(model: ir.Model) -> None:
    """Fold, name, deduplicate and strip a graph that the exporter made, in place.

    Afterwards each node is named for the module it comes from (``language.layers.0.mlp.gate_proj/MatMul``), weights
    are stored once and the way they are used, and neither metadata nor doc strings are left: they hold the stack
    traces and file paths of the machine that exported. Raises `WorkFailed` for float64, which TensorRT lacks.
    """
    # The optimiser would hold a transposed copy of every weight in memory. Its rewrite rules are left out: they take
    # most of the time and find nothing but a few reshapes in these graphs.
    optimizer.fold_constants_ir(model, should_fold=lambda node: False if node.op_type == "Transpose" else None)
    ir.passes.Sequential(
        passes.IdentityEliminationPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateHashedInitializersPass(size_limit=1 << 34),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.OutputFixPass(),
    )(model)
    _transpose_weights(model.graph)
    _name(model.graph)
    _strip(model)
    _refuse_float64(model.graph)


def _name(graph: ir.Graph) -> None:
    """Nodes and weights by their path in the policy, without the wrapper's own attribute in front."""
    seen: Counter[str] = Counter()
    for node in graph:
        # the exporter lists scopes from the root to the operation itself; the module is the one before
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        module = _inside(scopes[-2]) if len(scopes) > 1 else ""
        module = module or _inside(_weighted(node))
        name = f"{module}/{node.op_type}" if module else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
    for value in list(graph.initializers.values()):
        value.name = _inside(str(value.name))


def _weighted(node: ir.Node) -> str:
    """The module whose weight a node multiplies by; nothing else tells it in a graph that was traced beforehand."""
    names = [str(value.name) for value in node.inputs if value is not None and value.is_initializer()]
    return next((name.rpartition(".weight")[0] for name in names if ".weight" in name), "")


def _inside(path: str) -> str:
    return path.removeprefix(_WRAPPED).removeprefix(".")


def _transpose_weights(graph: ir.Graph) -> None:
    """Replace each transposition of a weight by the transposed weight, computed when it is written and not kept."""
    for node in list(graph):
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        if weight is None or weight.const_value is None or weight.name not in graph.initializers:
            continue
        axes = tuple(node.attributes["perm"].as_ints())
        if str(weight.name).endswith(TURNED) and axes == (1, 0):
            _multiply_by_turned(graph, node, weight)
            continue
        transposed = _transposed(weight.const_value, axes)
        name = f"{weight.name}{TURNED}" if axes == (1, 0) else f"{weight.name}{TURNED}{''.join(map(str, axes))}"
        if name not in graph.initializers:
            graph.register_initializer(
                ir.Value(name=name, shape=transposed.shape, type=weight.type, const_value=transposed)
            )
        node.outputs[0].replace_all_uses_with(graph.initializers[name])
        graph.remove(node, safe=True)
        if not weight.uses():
            del graph.initializers[str(weight.name)]


def _multiply_by_turned(graph: ir.Graph, node: ir.Node, turned: ir.Value) -> None:
    """Turn a weight back within the products that read it, so that it need not be stored both ways.

    A linear multiplies by its transposed weight, the gradient through it by the weight itself. node: transposes
    ``turned``, a weight that is stored transposed, back.
    """
    for product, _ in node.outputs[0].uses():
        x = product.inputs[0]
        if product.op_type != "MatMul" or x is None or x.shape is None or len(x.shape) != 2:
            raise WorkFailed(f"{turned.name} is turned for {product.op_type}, which cannot read it as it is stored")
        gemm = ir.node("Gemm", (x, turned), attributes={"transB": 1})
        (y,), (found,) = gemm.outputs, product.outputs
        y.name, y.shape, y.type = found.name, found.shape, found.type
        ir.convenience.replace_nodes_and_values(graph, product, [product], [gemm], [found], [y])
    graph.remove(node, safe=True)


def _transposed(tensor: ir.TensorProtocol, permutation: tuple[int, ...]) -> ir.LazyTensor:
    def compute() -> ir.TensorProtocol:
        return ir.tensor(np.ascontiguousarray(tensor.numpy().transpose(permutation)))

    size = tensor.shape.numpy()
    return ir.LazyTensor(compute, tensor.dtype, ir.Shape([size[axis] for axis in permutation]))


def _strip(model: ir.Model) -> None:
    passes.ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.doc_string = None
    model.producer_name, model.producer_version = "vla_export", None
    graph = model.graph
    for value in (*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)):
        value.metadata_props.clear()
        value.doc_string = None
        if value.const_value is not None:
            value.const_value.metadata_props.clear()
            value.const_value.doc_string = None


def _refuse_float64(graph: ir.Graph) -> None:
    for value in (*graph.inputs, *graph.initializers.values(), *(out for node in graph for out in node.outputs)):
        if value.dtype == ir.DataType.DOUBLE:
            producer = value.producer()
            where = value.name if producer is None else producer.name
            raise WorkFailed(f"{where} is float64, which TensorRT lacks: compute it in float32 in the model")
