"""Where the weights of exported graphs lie: beside them, and a weight that two graphs share only once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

TURNED = ".T"  # after the name of a weight that is stored transposed
INLINE = 256  # bytes up to which a weight stays in the graph's own file
PAGE = 4096  # where a weight may begin, so that it can be mapped into memory by itself


def store_weights(
    graph: ir.Graph, directory: Path, file: str, elsewhere: Mapping[str, ir.ExternalTensor]
) -> dict[str, ir.ExternalTensor]:
    """Write a graph's weights into ``file`` of ``directory``, one at a time, and let the graph refer to them there.

    elsewhere: weights by name that another graph in the directory has stored; those of the same name and value are
    referred to and not written again, and ``file`` not at all where no others are left. Returns what it holds, by name.
    """
    values = {name: value for name, value in graph.initializers.items() if value.const_value is not None}
    own = []
    for name, value in values.items():
        assert value.const_value is not None
        value.const_value.name = name
        if value.const_value.nbytes <= INLINE:
            continue
        if name in elsewhere and _same(value.const_value, elsewhere[name]):
            value.const_value = elsewhere[name]
        else:
            own.append(value.const_value)
    if not own:
        return {}
    stored = {
        str(tensor.name): tensor
        for tensor in ir.external_data.convert_tensors_to_external(own, directory, file, alignment=PAGE)
    }
    for name, tensor in stored.items():
        values[name].const_value = tensor
    return stored


def read_as_stored(graph: ir.Graph, elsewhere: Mapping[str, ir.ExternalTensor]) -> None:
    """Let products read a weight the way another graph has stored it, turning it themselves, instead of transposed.

    elsewhere: as of `store_weights`. Only a ``Gemm`` can turn what it reads; a weight that another operator reads too
    stays as it is.
    """
    for name, value in list(graph.initializers.items()):
        weight = name.removesuffix(TURNED)
        if name in elsewhere or weight not in elsewhere or value.const_value is None:
            continue
        readers = tuple(value.uses())
        if any(node.op_type != "Gemm" or place != 1 for node, place in readers):
            continue
        stored = elsewhere[weight]
        if not _same(ir.tensor(np.ascontiguousarray(value.const_value.numpy().T)), stored):
            continue
        as_stored = ir.Value(name=weight, shape=stored.shape, type=value.type, const_value=stored)
        graph.register_initializer(as_stored)
        for node, place in readers:
            turn = node.attributes.get_int("transB", 0)
            node.attributes["transB"] = ir.AttrInt64("transB", 1 - turn)
            node.replace_input_with(place, as_stored)
        del graph.initializers[name]


def _same(tensor: ir.TensorProtocol, stored: ir.ExternalTensor) -> bool:
    if tensor.dtype != stored.dtype or tensor.shape != stored.shape:
        return False
    same = bool(np.array_equal(tensor.numpy(), stored.numpy()))
    stored.release()
    return same
