"""Which engine runs a bundle on this machine, and why that one."""

from __future__ import annotations

from typing import Literal, get_args

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.engine import Engine
from vla_runtime.errors import BadInput

Preference = Literal["auto", "onnxruntime", "tensorrt"]
PREFERENCES: tuple[str, ...] = get_args(Preference)


def open_engine(bundle: Bundle, preference: str = "auto", precision: Precision | None = None) -> tuple[Engine, str]:
    """The engine, and one sentence that says which it is and why.

    preference: ``auto`` takes TensorRT where it can run, else ONNX Runtime, and says what kept TensorRT away.
    precision: by default the smallest one in the bundle on TensorRT, and fp32 on ONNX Runtime.

    Raises `BadInput` when the engine asked for by name cannot run here: it is never replaced by another one.
    """
    if preference not in PREFERENCES:
        raise BadInput(f"engine {preference!r} is unknown: choose one of {', '.join(PREFERENCES)}")
    if preference == "onnxruntime":
        return _onnxruntime(bundle, precision, "as asked")

    from vla_runtime.engines import tensorrt

    obstacle = tensorrt.can_run()
    if obstacle is None:
        engine = tensorrt.TensorRTEngine(bundle, precision or smallest_precision(bundle))
        return engine, f"{engine.name}: {'as asked' if preference == 'tensorrt' else 'TensorRT can run here'}"
    if preference == "tensorrt":
        raise BadInput(f"TensorRT cannot run on this machine: {obstacle}; use --engine onnxruntime, or see vla-doctor")
    return _onnxruntime(bundle, precision, f"TensorRT was not taken: {obstacle}")


def smallest_precision(bundle: Bundle) -> Precision:
    """What TensorRT runs by default: fp16 where the bundle has it."""
    return "fp16" if "fp16" in bundle.manifest.graphs else "fp32"


def _onnxruntime(bundle: Bundle, precision: Precision | None, why: str) -> tuple[Engine, str]:
    import onnxruntime

    from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(bundle, precision or "fp32")
    if engine.device == "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        why += "; its CUDA provider is installed but did not load"
    return engine, f"{engine.name}: {why}"
