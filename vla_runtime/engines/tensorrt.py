"""TensorRT and TensorRT-RTX: plans built on this machine, the prefix kept on the GPU."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Part, Precision
from vla_runtime.engines import cuda
from vla_runtime.engines.tensorrt_build import Library, Log, available, build, can_run, find_library
from vla_runtime.engines.tensorrt_types import TensorType, check_handover, check_tensors, engine_tensors
from vla_runtime.errors import BadInput, WorkFailed

__all__ = ["Prefix", "TensorRTEngine", "available", "build", "can_run"]

_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT32": np.int32,
    "BOOL": np.bool_,
}
_ALIGNMENT = 256


class Prefix:
    """Stands for the prefix in the device memory of the engine that encoded it, until it encodes the next one."""


class TensorRTEngine:
    """Each graph as an execution context, all on one stream.

    Device memory is taken once. The outputs of encode are the inputs of a step: of a prefix nothing is copied, and
    a flow step copies only the chunk, its times and what it is steered by. Each call synchronises the stream once, at
    its end.
    """

    def __init__(self, bundle: Bundle, precision: Precision = "fp32") -> None:
        """Load the plans, building them first where the cache has none.

        Raises `WorkFailed` where engines cannot run (`can_run` says why) and for what `build` raises.
        """
        if (reason := can_run()) is not None:
            raise WorkFailed(reason)
        library = find_library()
        assert isinstance(library, Library)
        plans = build(bundle, precision)
        parts = bundle.manifest.graphs[precision].parts()
        self._cuda = cuda.Driver()
        self._name = f"{library.title} {self._cuda.device_name} {precision}"
        self._log = Log(library)
        graphs: dict[Part, _Graph] = {
            part: _Graph(library, self._log, plan) for part, plan in zip(parts, plans, strict=True)
        }
        self._encode, self._denoise, self._guided = graphs["encode"], graphs["denoise"], graphs.get("guided")
        for part, graph in graphs.items():
            check_tensors(part, f"{library.title} {part}", graph.inputs, graph.outputs, bundle.manifest, precision)
            if part != "encode":
                check_handover(self._encode.outputs, graph.inputs, part)
        self._tensors = {name: t for graph in graphs.values() for name, t in (graph.inputs | graph.outputs).items()}
        self._stream = self._cuda.new_stream()
        self._memory = _allocate(self._cuda, self._tensors)
        weakref.finalize(self, _release, self._cuda, min(self._memory.values()), self._stream).atexit = False
        for graph in graphs.values():
            graph.bind(self._memory)
        self._prefix: Prefix | None = None

    @property
    def name(self) -> str:
        return self._name

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Prefix:
        """Observation tensors → prefix; it replaces the one before, which is refused from then on."""
        self._prefix = None
        observed = {name: self._host_array(name, inputs[name]) for name in self._encode.inputs}
        self._start(self._encode, observed)
        self._cuda.synchronise(self._stream)
        self._prefix = Prefix()
        return self._prefix

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Prefix) -> NDArray[np.float32]:
        step = {"chunk": chunk, "time": np.array([time]), "next_time": np.array([next_time])}
        return self._step(self._denoise, step, prefix)

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
        return self._step(self._guided, step | towards, prefix)

    def prefix_arrays(self, prefix: Prefix) -> dict[str, NDArray[Any]]:
        self._check_current(prefix)
        self._cuda.activate()
        arrays = {name: self._download(name) for name in self._encode.outputs}
        self._cuda.synchronise(self._stream)
        return arrays

    def _step(self, graph: _Graph, values: Mapping[str, NDArray[Any]], prefix: Prefix) -> NDArray[np.float32]:
        self._check_current(prefix)
        arrays = {name: self._host_array(name, value) for name, value in values.items()}
        self._start(graph, arrays)
        next_chunk = self._download("next_chunk")
        self._cuda.synchronise(self._stream)
        return next_chunk

    def _start(self, graph: _Graph, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Upload and run without waiting; the caller keeps the arrays until it has synchronised the stream."""
        self._cuda.activate()
        for name, array in arrays.items():
            self._cuda.upload(array, self._memory[name], self._stream)
        if not graph.context.execute_async_v3(self._stream):
            raise WorkFailed(f"{self._name}: inference failed: {self._log.last_error()}")

    def _host_array(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        tensor = self._tensors[name]
        if value.shape != tensor.shape:
            raise BadInput(f"{self._name}: {name} has the shape {list(value.shape)}, the policy takes {tensor}")
        return np.ascontiguousarray(value, _NUMPY_TYPES[tensor.dtype])

    def _download(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        return self._cuda.download(self._memory[name], tensor.shape, _NUMPY_TYPES[tensor.dtype], self._stream)

    def _check_current(self, prefix: Prefix) -> None:
        if prefix is not self._prefix:
            raise WorkFailed(f"{self._name}: this prefix is gone: another observation was encoded after it")


class _Graph:
    """One deserialised plan and its execution context."""

    def __init__(self, library: Library, log: Log, plan: Path) -> None:
        self._runtime = library.module.Runtime(log.listener)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise WorkFailed(f"{library.title} cannot load {plan}: {log.last_error()}; delete it and start again")
        self.inputs, self.outputs = engine_tensors(library.module, self._engine)
        self.context = self._engine.create_execution_context()
        if self.context is None:
            raise WorkFailed(f"{library.title} cannot run {plan.name}: {log.last_error()}")

    def bind(self, memory: Mapping[str, int]) -> None:
        """Tell the context where its tensors are."""
        for name in (*self.inputs, *self.outputs):
            self.context.set_tensor_address(name, memory[name])


def _allocate(driver: cuda.Driver, tensors: Mapping[str, TensorType]) -> dict[str, int]:
    """Where each tensor lies in one piece of device memory, each on TensorRT's boundary of 256 bytes."""
    offsets, end = {}, 0
    for name, tensor in tensors.items():
        offsets[name] = end
        size = int(np.prod(tensor.shape)) * np.dtype(_NUMPY_TYPES[tensor.dtype]).itemsize
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    start = driver.allocate(end)
    return {name: start + offset for name, offset in offsets.items()}


def _release(driver: cuda.Driver, pointer: int, stream: int) -> None:
    driver.activate()
    driver.synchronise(stream)
    driver.free(pointer)
    driver.delete_stream(stream)
