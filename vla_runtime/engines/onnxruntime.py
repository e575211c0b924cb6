"""ONNX Runtime: runs a bundle everywhere, on CUDA where its provider is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput, WorkFailed

_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_ORT_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

Prefix = dict[str, ort.OrtValue]


class OnnxRuntimeGraphs:
    """Each graph as a session; the prefix stays where it was computed.

    A graph's inputs and outputs may be float32 or float16: values are converted to what the graph declares.
    ``device`` is where it really computes, ``cuda`` or ``cpu``: a CUDA provider that does not load is left out.
    """

    def __init__(
        self,
        encode: Path,
        denoise: Path,
        precision: Precision,
        threads: int | None = None,
        optimise: bool = True,
        guided: Path | None = None,
    ) -> None:
        """A file for each graph; ``precision`` is what they are in, for the name.

        ``threads``: how many one inference may use; by default all cores but one, which the control loop needs.

        ``optimise=False`` runs the graphs as they lie on disk, slower, with their weights mapped from there: the
        optimiser reads them all, and on a CPU keeps a float32 copy of every float16 one.

        Raises `BadInput` for graphs that ONNX Runtime cannot load.
        """
        self._encode = _session(encode, threads, optimise)
        self._denoise = _session(denoise, threads, optimise)
        self._guided = None if guided is None else _session(guided, threads, optimise)
        self.device = "cuda" if self._encode.get_providers()[0] == "CUDAExecutionProvider" else "cpu"
        self._name = f"onnxruntime {self.device.upper()} {precision}"
        self._encode_types = _input_types(self._encode)
        self._denoise_types = _input_types(self._denoise)
        self._guided_types = {} if self._guided is None else _input_types(self._guided)
        self._prefix_names = [output.name for output in self._encode.get_outputs()]

    @property
    def name(self) -> str:
        return self._name

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Prefix:
        # A bound value borrows its array's memory without keeping it alive: the values must outlast the run.
        values = {name: _host_value(inputs[name], dtype) for name, dtype in self._encode_types.items()}
        binding = self._encode.io_binding()
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._prefix_names:
            binding.bind_output(name, self.device)
        self._run(self._encode, binding)
        return dict(zip(self._prefix_names, binding.get_outputs(), strict=True))

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Prefix) -> NDArray[np.float32]:
        step = {"chunk": chunk, "time": np.array([time]), "next_time": np.array([next_time])}
        return self._step(self._denoise, self._denoise_types, step, prefix)

    @property
    def can_guide(self) -> bool:
        return self._guided is not None

    def guided(
        self,
        chunk: NDArray[np.float32],
        time: float,
        next_time: float,
        prefix: Prefix,
        previous: NDArray[np.float32],
        weights: NDArray[np.float32],
        beta: float,
    ) -> NDArray[np.float32]:
        if self._guided is None:
            raise BadInput(f"{self._name} has no guided graph: export the bundle with --rtc")
        step = {"chunk": chunk, "time": np.array([time]), "next_time": np.array([next_time])}
        towards = {"previous": previous, "weights": weights, "beta": np.array([beta])}
        return self._step(self._guided, self._guided_types, step | towards, prefix)

    def _step(
        self,
        session: ort.InferenceSession,
        types: Mapping[str, type[np.generic]],
        step: Mapping[str, NDArray[Any]],
        prefix: Prefix,
    ) -> NDArray[np.float32]:
        values = prefix | {name: _host_value(array, types[name]) for name, array in step.items()}
        binding = session.io_binding()
        for name in types:
            binding.bind_ortvalue_input(name, values[name])
        binding.bind_output("next_chunk", "cpu")
        self._run(session, binding)
        next_chunk: NDArray[Any] = binding.get_outputs()[0].numpy()
        return next_chunk.astype(np.float32, copy=False)

    def prefix_arrays(self, prefix: Prefix) -> dict[str, NDArray[Any]]:
        return {name: value.numpy() for name, value in prefix.items()}

    def _run(self, session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        try:
            session.run_with_iobinding(binding)
        except _ORT_ERRORS as error:
            raise WorkFailed(f"{self._name}: inference failed: {error}") from error


class OnnxRuntimeEngine(OnnxRuntimeGraphs):
    """A bundle's graphs, checked against its manifest."""

    def __init__(
        self, bundle: Bundle, precision: Precision = "fp32", threads: int | None = None, optimise: bool = True
    ) -> None:
        """``threads`` and ``optimise`` are those of `OnnxRuntimeGraphs`.

        Raises `BadInput` for a precision the bundle lacks, and for graphs that ONNX Runtime cannot load or that are
        not the ones the manifest describes.
        """
        graphs = bundle.manifest.graphs
        if precision not in graphs:
            raise BadInput(f"{bundle.root} has no {precision} graphs, it has {', '.join(graphs)}: export it with them")
        paths = {part: bundle.path(graph) for part, graph in graphs[precision].parts().items()}
        guided = paths.get("guided")
        super().__init__(paths["encode"], paths["denoise"], precision, threads, optimise, guided)
        self._check_contract(bundle)

    def _check_contract(self, bundle: Bundle) -> None:
        """Refuse graphs whose tensors are not those the manifest promises, before the arm depends on them."""
        manifest = bundle.manifest
        chunk = [1, manifest.horizon, manifest.action.padded_to]
        prefix = _shapes(self._encode.get_outputs())
        step = {"chunk": chunk, "time": [1], "next_time": [1], **prefix}
        expected = {
            "encode": {name: list(shape) for name, shape in manifest.encode_inputs().items()},
            "denoise": step,
            "denoise's result": {"next_chunk": chunk},
        }
        found = {
            "encode": _shapes(self._encode.get_inputs()),
            "denoise": _shapes(self._denoise.get_inputs()),
            "denoise's result": _shapes(self._denoise.get_outputs()),
        }
        if self._guided is not None:
            weights = [1, manifest.horizon, 1]
            expected |= {
                "guided": {**step, "previous": chunk, "weights": weights, "beta": [1]},
                "guided's result": {"next_chunk": chunk},
            }
            found |= {
                "guided": _shapes(self._guided.get_inputs()),
                "guided's result": _shapes(self._guided.get_outputs()),
            }
        for graph, shapes in expected.items():
            for name in sorted(shapes.keys() | found[graph].keys()):
                if shapes.get(name) != found[graph].get(name):
                    raise BadInput(
                        f"{bundle.root}: {graph}: {name} is {found[graph].get(name, 'missing')}, the manifest "
                        f"says {shapes.get(name, 'nothing')}: export the bundle again"
                    )


def _session(path: Path, threads: int | None, optimise: bool) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) - 1) if threads is None else threads
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False  # it would keep what it once held of weights in another type
    # Threads that spin while they wait take their core from the process that moves the arm.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # On x86 without VNNI the fast product of int8 saturates; there, this takes the exact one.
    options.add_session_config_entry("session.x64quantprecision", "1")
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [provider for provider in wanted if provider in ort.get_available_providers()]
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except _ORT_ERRORS as error:
        raise BadInput(f"ONNX Runtime {ort.__version__} cannot load {path}: {error}") from error


def _input_types(session: ort.InferenceSession) -> dict[str, type[np.generic]]:
    for tensor in session.get_inputs():
        if tensor.type not in _NUMPY_TYPES:
            raise BadInput(
                f"graph input {tensor.name} has the type {tensor.type}, which no bundle has: export it again"
            )
    return {tensor.name: _NUMPY_TYPES[tensor.type] for tensor in session.get_inputs()}


def _shapes(tensors: list[ort.NodeArg]) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.shape) for tensor in tensors}


def _host_value(array: NDArray[Any], dtype: type[np.generic]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array, dtype))
