"""The few calls of the CUDA driver an engine needs, through the library that every NVIDIA driver installs.

``libcuda.so.1`` is present wherever a CUDA engine can run, on a desktop, in a container and on Jetson; a toolkit or a
Python package of the right version is not. Streams and memory are interchangeable with TensorRT's own, because both
use the device's primary context. Names and constants: CUDA Driver API reference manual.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import WorkFailed

_LIBRARY = "libcuda.so.1"
_NO_DEVICE = 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NON_BLOCKING_STREAM = 1


def missing() -> str | None:
    """None where a CUDA GPU can be used, else what is missing, as the end of a sentence."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return "no CUDA GPU is visible (the NVIDIA driver's libcuda.so.1 is not installed)"
    status = library.cuInit(0)
    if status == _NO_DEVICE:
        return "no CUDA GPU is visible"
    if status != 0:
        return f"the CUDA driver does not start (error {status})"
    return None


class Driver:
    """The first visible CUDA device (``CUDA_VISIBLE_DEVICES`` chooses), its context made current in this thread.

    Device memory and streams are plain integers: pointers and handles.
    """

    def __init__(self) -> None:
        """Raises `WorkFailed` where `missing` gives a reason."""
        if (reason := missing()) is not None:
            raise WorkFailed(f"CUDA cannot be used: {reason}")
        self._cuda = ctypes.CDLL(_LIBRARY)
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.activate()

    @property
    def device_name(self) -> str:
        """The GPU as its driver names it."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        return name.value.decode()

    @property
    def compute_capability(self) -> str:
        """Major and minor: ``8.7`` on Jetson AGX Orin."""
        return f"{self._attribute(_CAPABILITY_MAJOR)}.{self._attribute(_CAPABILITY_MINOR)}"

    def activate(self) -> None:
        """Make the device current in the calling thread; each thread needs it before any other call."""
        self._call("cuCtxSetCurrent", self._context)

    def new_stream(self) -> int:
        """A stream that does not wait for the default one."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING_STREAM)
        assert stream.value is not None
        return stream.value

    def delete_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def synchronise(self, stream: int) -> None:
        """Wait for everything the stream was given."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def allocate(self, size: int) -> int:
        """Device memory of ``size`` bytes."""
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def free(self, pointer: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def upload(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        """Copy a contiguous array to the device; keep it alive and unchanged until the stream is synchronised."""
        source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(pointer), source, size, ctypes.c_void_p(stream))

    def download(self, pointer: int, shape: tuple[int, ...], dtype: type[np.generic], stream: int) -> NDArray[Any]:
        """A new array that holds the device's values once the stream is synchronised."""
        array = np.empty(shape, dtype)
        target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(pointer), size, ctypes.c_void_p(stream))
        return array

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._cuda, function)(*arguments)
        if status != 0:
            name = ctypes.c_char_p()
            self._cuda.cuGetErrorName(status, ctypes.byref(name))
            raise WorkFailed(f"{function} failed: {name.value.decode() if name.value else f'CUDA error {status}'}")
