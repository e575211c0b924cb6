"""A flow step that is steered by a gradient, as operations that ONNX has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import get_decompositions
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

from vla_export.models.flow_model import FlowModel

_aten = torch.ops.aten

STEP = ("chunk", "time", "next_time", "previous", "weights", "beta")


def trace_guided(model: FlowModel, inputs: Mapping[str, Tensor]) -> nn.Module:
    """`FlowModel.guided` with its vector-Jacobian product written out, as a module of plain operations.

    torch.export cannot see through `torch.func.vjp`; tracing it into operations first gives it a graph in which the
    gradient is nothing special. Nothing is computed while tracing. What selects (a router's largest scores) is constant
    to the gradient, as it is to autograd.

    inputs: example values by name: those of `STEP`, then the prefix. The module takes them in this order. Its weights
    are the model's own, under their names.
    """
    step = _GuidedStep(model, tuple(name for name in inputs if name not in STEP))
    weights = dict(step.named_parameters()) | dict(step.named_buffers())

    def run(weights: Mapping[str, Tensor], values: tuple[Tensor, ...]) -> Tensor:
        return functional_call(step, dict(weights), values)

    traced = make_fx(run, decomposition_table=_decompositions(), tracing_mode="fake")(weights, tuple(inputs.values()))
    return _with_weights(traced, weights)


class _GuidedStep(nn.Module):
    def __init__(self, model: FlowModel, prefix_names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.prefix_names = model, prefix_names

    def forward(
        self,
        chunk: Tensor,
        time: Tensor,
        next_time: Tensor,
        previous: Tensor,
        weights: Tensor,
        beta: Tensor,
        *prefix: Tensor,
    ) -> Tensor:
        named = dict(zip(self.prefix_names, prefix, strict=True))
        return self.model.guided(chunk, time, next_time, named, previous, weights, beta)


def _with_weights(traced: fx.GraphModule, weights: Mapping[str, Tensor]) -> fx.GraphModule:
    """The traced module with its first inputs, the weights in their order, turned into attributes of their names."""
    graph = traced.graph
    held: dict[str, Any] = {node.target: getattr(traced, node.target) for node in graph.find_nodes(op="get_attr")}
    placeholders = graph.find_nodes(op="placeholder")
    for name, placeholder in zip(weights, placeholders, strict=False):  # the values follow the weights
        if placeholder.users:
            with graph.inserting_before(placeholder):
                placeholder.replace_all_uses_with(graph.create_node("get_attr", name))
            held[name] = weights[name]
        graph.erase_node(placeholder)
    # it takes and gives what is in the graph, no longer what it was traced with
    results: Any = graph.output_node().args[0]
    graph.output_node().args = tuple(results)
    graph.set_codegen(fx.graph.CodeGen())
    return fx.GraphModule(held, graph)


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Backward operations in terms of those that ONNX has, without writing into parts of a tensor."""
    own: dict[Any, Callable[..., Any]] = {
        _aten.index_put.default: _index_put,
        _aten.index_add.default: _index_add,
        _aten.pow.Tensor_Scalar: _power,
        _aten.silu_backward.default: _silu_backward,
        _aten.slice_backward.default: _slice_backward,
    }
    return get_decompositions([_aten._softmax_backward_data, _aten.gelu_backward]) | own


def _silu_backward(gradient: Tensor, x: Tensor) -> Tensor:
    share = torch.sigmoid(x)
    return gradient * share * (1 + x * (1 - share))


def _power(x: Tensor, exponent: float) -> Any:
    """The small powers that the gradients of squares and roots are made of, without a general power of each number."""
    if exponent not in (1, 2, 3):
        return NotImplemented
    return x if exponent == 1 else x * x if exponent == 2 else x * x * x


def _slice_backward(gradient: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Any:
    """Zeros around the gradient, which is a padding; a scatter would be written number by number."""
    if step != 1:
        return NotImplemented
    dim %= len(sizes)
    after = sizes[dim] - start - gradient.shape[dim]
    return _aten.constant_pad_nd(gradient, [*(0, 0) * (len(sizes) - 1 - dim), start, after])


def _index_add(total: Tensor, dim: int, index: Tensor, gradient: Tensor) -> Tensor:
    """What went to several places sums up; places are few and fixed, so that a mask takes the scatter's place."""
    places = (index[:, None] == torch.arange(total.shape[dim], device=index.device)).to(gradient.dtype)
    return total + (gradient.movedim(dim, -1)[..., None] * places).sum(-2).movedim(-1, dim)


def _index_put(total: Tensor, indices: list[Tensor | None], gradient: Tensor, accumulate: bool = False) -> Any:
    *others, index = indices
    if (
        not accumulate
        or index is None
        or index.ndim != 1
        or len(indices) != total.ndim
        or any(o is not None for o in others)
    ):
        return NotImplemented
    return _index_add(total, total.ndim - 1, index, gradient)
