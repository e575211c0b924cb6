"""A GPU and a TensorRT that are not there: memory is a byte array, plans are run by ONNX Runtime.

What was asked of a stream happens only when it is synchronised, as on a real one, and an array that its owner let go
of before that is an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

BASE = 1 << 40


class Driver:
    """`vla_runtime.engines.cuda.Driver` over host memory; counts what it is asked for."""

    last: Driver

    def __init__(self) -> None:
        Driver.last = self
        self.device_name, self.compute_capability = "Fake GPU", "8.7"
        self.heap = bytearray()
        self.queue: list[Callable[[], None]] = []
        self.calls: list[str] = []

    def activate(self) -> None:
        self.calls.append("activate")

    def new_stream(self) -> int:
        return 7

    def delete_stream(self, stream: int) -> None:
        self.calls.append(f"delete stream {stream}")

    def allocate(self, size: int) -> int:
        self.heap = bytearray(b"\xaa" * size)
        return BASE

    def free(self, pointer: int) -> None:
        self.calls.append(f"free {pointer - BASE}")

    def view(self, pointer: int, size: int) -> memoryview:
        assert 0 <= pointer - BASE <= pointer - BASE + size <= len(self.heap)
        return memoryview(self.heap)[pointer - BASE : pointer - BASE + size]

    def upload(self, array: np.ndarray, pointer: int, stream: int) -> None:
        assert stream == 7
        assert array.flags.c_contiguous
        alive, size = weakref.ref(array), array.nbytes

        def copy() -> None:
            source = alive()
            assert source is not None, "the array was gone before the stream was synchronised"
            self.view(pointer, size)[:] = source.tobytes()

        self.calls.append("upload")
        self.queue.append(copy)

    def download(self, pointer: int, shape: tuple[int, ...], dtype: Any, stream: int) -> np.ndarray:
        array = np.zeros(shape, dtype)

        def copy() -> None:
            array[...] = np.frombuffer(self.view(pointer, array.nbytes), dtype).reshape(shape)

        self.calls.append("download")
        self.queue.append(copy)
        return array

    def synchronise(self, stream: int) -> None:
        self.calls.append("synchronise")
        queue, self.queue = self.queue, []
        for work in queue:
            work()


class DataType(Enum):
    FLOAT = "tensor(float)"
    HALF = "tensor(float16)"
    INT32 = "tensor(int32)"
    BOOL = "tensor(bool)"


NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT32: np.int32, DataType.BOOL: np.bool_}


class LayerType(Enum):
    MATRIX_MULTIPLY = 0
    CONVOLUTION = 1


class Mode(Enum):
    INPUT = 0
    OUTPUT = 1


class Flag(IntEnum):
    STRONGLY_TYPED = 0


class BuilderFlag(Enum):
    TF32 = 0


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


class Network:
    """A parsed graph; ``layers`` are added by tests."""

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.session: ort.InferenceSession | None = None
        self.path = ""

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.session.get_inputs()))
    num_outputs = property(lambda self: len(self.session.get_outputs()))

    def get_layer(self, n: int) -> Any:
        return self.layers[n]

    def get_input(self, n: int) -> Any:
        return tensor(self.session.get_inputs()[n])

    def get_output(self, n: int) -> Any:
        return tensor(self.session.get_outputs()[n])


def tensor(declared: Any) -> SimpleNamespace:
    return SimpleNamespace(name=declared.name, dtype=DataType(declared.type), shape=tuple(declared.shape))


class Engine:
    def __init__(self, path: str) -> None:
        self.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        self.inputs = {t.name: tensor(t) for t in self.session.get_inputs()}
        self.outputs = {t.name: tensor(t) for t in self.session.get_outputs()}
        self.tensors = self.inputs | self.outputs
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, n: int) -> str:
        return list(self.tensors)[n]

    def get_tensor_mode(self, name: str) -> Mode:
        return Mode.INPUT if name in self.inputs else Mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    fails = False

    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()

    def set_tensor_address(self, name: str, pointer: int) -> None:
        assert pointer % 256 == 0
        self.addresses[name] = pointer

    def execute_async_v3(self, stream: int) -> bool:
        driver = Driver.last
        assert stream == 7
        assert self.addresses.keys() == self.engine.tensors.keys()

        def run() -> None:
            feed = {name: self.read(driver, t) for name, t in self.engine.inputs.items()}
            for t, value in zip(self.engine.outputs.values(), self.engine.session.run(None, feed), strict=True):
                driver.view(self.addresses[t.name], value.nbytes)[:] = value.tobytes()

        driver.calls.append("execute")
        driver.queue.append(run)
        return not self.fails

    def read(self, driver: Driver, t: Any) -> np.ndarray:
        dtype = NUMPY[t.dtype]
        size = int(np.prod(t.shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(bytes(driver.view(self.addresses[t.name], size)), dtype).reshape(t.shape)


class Builder:
    def __init__(self, log: Any) -> None:
        self.log = log

    def create_network(self, flags: int) -> Network:
        assert flags == 1 << Flag.STRONGLY_TYPED
        return Network()

    def create_builder_config(self) -> Any:
        return SimpleNamespace(clear_flag=lambda flag: None)

    def build_serialized_network(self, network: Network, config: Any) -> bytes:
        return network.path.encode()


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, log: Any) -> None:
        self.network = network

    def parse_from_file(self, path: str) -> bool:
        self.network.path = path
        self.network.session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return True


class Runtime:
    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        if plan == b"damaged":
            self.log.log(ILogger.ERROR, "magic tag does not match")
            return None
        return Engine(plan.decode())


def module(version: str = "10.3.0") -> SimpleNamespace:
    """What ``import tensorrt`` would give."""
    return SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        LayerType=LayerType,
        TensorIOMode=Mode,
        NetworkDefinitionCreationFlag=Flag,
        BuilderFlag=BuilderFlag,
        Builder=Builder,
        OnnxParser=OnnxParser,
        Runtime=Runtime,
    )
