"""A bundle as studies run it: one thread of ONNX Runtime, so that the rest of the machine weighs little."""

from __future__ import annotations

from pathlib import Path

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.choice import onnxruntime_precision
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.policy.policy import Policy


def opened(bundle: Path) -> tuple[Bundle, Policy]:
    """As `vla_evaluation` runs it. Raises `BadInput` for what is no bundle."""
    found = Bundle.open(bundle)
    return found, Policy(found, OnnxRuntimeEngine(found, onnxruntime_precision(found), threads=1))
