"""Which engine runs a bundle on this machine, and why that one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.engine import Engine
from vla_runtime.errors import BadInput

Preference = Literal["auto", "onnxruntime", "tensorrt"]
PREFERENCES: tuple[str, ...] = get_args(Preference)

# What each engine runs, best first. On a CPU half precision is slower than float32, as ONNX Runtime converts it there
# and back. Where fp32 was left out of a bundle, int8 graphs were made for ONNX Runtime and fp16 ones for a GPU.
ONNXRUNTIME_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8", "fp16")
TENSORRT_PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")


def open_engine(bundle: Bundle, preference: str = "auto", precision: Precision | None = None) -> tuple[Engine, str]:
    """The engine, and one sentence that says which it is and why.

    preference: ``auto`` takes TensorRT where it can run, else ONNX Runtime, and says what kept TensorRT away.
    precision: by default the first the bundle has of `TENSORRT_PRECISIONS` or `ONNXRUNTIME_PRECISIONS`.

    Raises `BadInput` when the engine asked for by name cannot run here, or not in this precision: it is never replaced
    by another one.
    """
    if preference not in PREFERENCES:
        raise BadInput(f"engine {preference!r} is unknown: choose one of {', '.join(PREFERENCES)}")
    if preference == "onnxruntime":
        return _onnxruntime(bundle, precision, "as asked")

    from vla_runtime.engines import tensorrt

    obstacle = tensorrt.can_run()
    if obstacle is not None and preference == "tensorrt":
        raise BadInput(f"TensorRT cannot run on this machine: {obstacle}; use --engine onnxruntime, or see vla-doctor")
    if obstacle is None and preference == "auto":
        asked = bundle.manifest.graphs if precision is None else (precision,)
        if not set(asked) & set(TENSORRT_PRECISIONS):
            obstacle = f"it does not run {', '.join(asked)} graphs"
    if obstacle is not None:
        return _onnxruntime(bundle, precision, f"TensorRT was not taken: {obstacle}")
    engine = tensorrt.TensorRTEngine(bundle, precision or tensorrt_precision(bundle))
    return engine, f"{engine.name}: {'as asked' if preference == 'tensorrt' else 'TensorRT can run here'}"


def tensorrt_precision(bundle: Bundle) -> Precision:
    """What TensorRT runs by default; raises `BadInput` where the bundle has nothing for it."""
    return _first(bundle, TENSORRT_PRECISIONS, "TensorRT")


def onnxruntime_precision(bundle: Bundle) -> Precision:
    """What ONNX Runtime runs by default."""
    return _first(bundle, ONNXRUNTIME_PRECISIONS, "ONNX Runtime")


def _first(bundle: Bundle, preferred: Sequence[Precision], engine: str) -> Precision:
    for precision in preferred:
        if precision in bundle.manifest.graphs:
            return precision
    raise BadInput(
        f"{bundle.root} has {', '.join(bundle.manifest.graphs)} graphs only; {engine} runs {', '.join(preferred)}: "
        "export it with one of them"
    )


def _onnxruntime(bundle: Bundle, precision: Precision | None, why: str) -> tuple[Engine, str]:
    import onnxruntime

    from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(bundle, precision or onnxruntime_precision(bundle))
    if engine.device == "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        why += "; its CUDA provider is installed but did not load"
    return engine, f"{engine.name}: {why}"
