"""Which types a graph and the engine built from it must have: a library that quietly computes in others is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vla_runtime.bundle.manifest import Manifest, Part, Precision
from vla_runtime.errors import WorkFailed

_PRODUCTS = ("MATRIX_MULTIPLY", "CONVOLUTION")
_WEIGHTS: Mapping[Precision, str] = {"fp32": "FLOAT", "fp16": "HALF"}
_INPUTS: Mapping[str, str] = {"tokens": "INT32", "token_mask": "BOOL"}
_STEP = ("chunk", "time", "next_time")
_TOWARDS = ("previous", "weights", "beta")


@dataclass(frozen=True)
class TensorType:
    """A tensor's type, as TensorRT names it (FLOAT, HALF, INT32, BOOL), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


Tensors = dict[str, TensorType]


def is_float32_by_design(module: str) -> bool:
    """Whether a module, by its path in the policy, computes in float32 at every precision.

    These are the policy's edges: the projections of state, actions and flow time. They are a thousandth of the
    arithmetic, and their rounding would add to every action directly.
    """
    return module.startswith(("state_", "action_", "time_"))


def check_products(trt: Any, network: Any, graph: str, precision: Precision) -> None:
    """Every matrix product and convolution of a parsed network must be in the precision's type.

    A network that is strongly typed is built as it is, so this holds for the engine. Layers carry the names of their
    ONNX nodes: the module's path, a slash, the operator. Raises `WorkFailed`, naming the first layer that differs.
    """
    for layer in _layers(network):
        if layer.type not in [getattr(trt.LayerType, product) for product in _PRODUCTS]:
            continue
        wanted = "FLOAT" if is_float32_by_design(layer.name) else _WEIGHTS[precision]
        found = layer.get_output(0).dtype.name
        if found != wanted:
            raise WorkFailed(
                f"{graph}: {layer.name} computes in {found}, a {precision} engine needs {wanted}: export it again"
            )


def network_tensors(network: Any) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of a parsed network."""
    inputs = [network.get_input(n) for n in range(network.num_inputs)]
    outputs = [network.get_output(n) for n in range(network.num_outputs)]
    found = [{t.name: TensorType(t.dtype.name, tuple(t.shape)) for t in tensors} for tensors in (inputs, outputs)]
    return found[0], found[1]


def engine_tensors(trt: Any, engine: Any) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of a built engine."""
    inputs, outputs = Tensors(), Tensors()
    for name in (engine.get_tensor_name(n) for n in range(engine.num_io_tensors)):
        side = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        side[name] = TensorType(engine.get_tensor_dtype(name).name, tuple(engine.get_tensor_shape(name)))
    return inputs, outputs


def check_tensors(
    part: Part, graph: str, inputs: Tensors, outputs: Tensors, manifest: Manifest, precision: Precision
) -> None:
    """A graph takes and gives what the manifest says, at this precision; raises `WorkFailed` naming the tensor.

    Only keys and values of the prefix follow the precision; chunk, times, images and state are float32 at each.
    """
    chunk = TensorType("FLOAT", (1, manifest.horizon, manifest.action.padded_to))
    expected_prefix = _expected_prefix(outputs if part == "encode" else _prefix_inputs(inputs), precision)
    if part == "encode":
        expected_inputs = {
            name: TensorType(_INPUTS.get(name, "FLOAT"), shape) for name, shape in manifest.encode_inputs().items()
        }
        expected_outputs = expected_prefix
    else:
        time = TensorType("FLOAT", (1,))
        expected_inputs = {"chunk": chunk, "time": time, "next_time": time, **expected_prefix}
        if part == "guided":
            weights = TensorType("FLOAT", (1, manifest.horizon, 1))
            expected_inputs |= {"previous": chunk, "weights": weights, "beta": time}
        expected_outputs = {"next_chunk": chunk}
    _compare(f"{graph}: input", expected_inputs, inputs)
    _compare(f"{graph}: output", expected_outputs, outputs)


def check_handover(encode_outputs: Tensors, inputs: Tensors, part: Part = "denoise") -> None:
    """What encode gives is what a step takes, tensor by tensor; raises `WorkFailed` naming the first that is not."""
    _compare(f"{part}: input", encode_outputs, _prefix_inputs(inputs), "encode")


def _prefix_inputs(inputs: Tensors) -> Tensors:
    return {name: tensor for name, tensor in inputs.items() if name not in (*_STEP, *_TOWARDS)}


def _expected_prefix(found: Tensors, precision: Precision) -> Tensors:
    """The prefix with its number of layers and their sizes taken from what was found, its names and types not."""
    mask = found.get("prefix_mask", TensorType("BOOL", ()))
    expected = {"prefix_mask": TensorType("BOOL", (1, *mask.shape[-1:]))}
    for n in range(len(found) // 2):
        for name in (f"key_{n:02d}", f"value_{n:02d}"):
            size = found[name].shape if name in found else ()
            heads, length, head_dim = size[1:] if len(size) == 4 else (0, 0, 0)
            expected[name] = TensorType(_WEIGHTS[precision], (1, heads, *(mask.shape[-1:] or [length]), head_dim))
    return expected


def _compare(what: str, expected: Tensors, found: Tensors, source: str = "the manifest") -> None:
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise WorkFailed(
                f"{what} {name} is {found.get(name, 'missing')}, {source} "
                f"says {expected.get(name, 'there is none')}: export the bundle again"
            )


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(n) for n in range(network.num_layers))
