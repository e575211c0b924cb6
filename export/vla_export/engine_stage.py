"""The engine stage: a TensorRT engine for this machine, or by name why there is none."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vla_export.progress import StageProgress
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines import tensorrt_build


class EngineOutcome(BaseModel):
    """plans: the built files in the engine cache. skipped: why there are none, None where there are."""

    model_config = ConfigDict(frozen=True)

    precision: Precision
    library: str | None
    plans: tuple[Path, ...]
    skipped: str | None


def build_engine(bundle: Bundle, precision: Precision, progress: StageProgress) -> EngineOutcome:
    """Build the plans of ``precision``; raises `WorkFailed` where TensorRT is there and refuses the graphs."""
    library = tensorrt_build.find_library()
    if isinstance(library, str):
        return EngineOutcome(precision=precision, library=None, plans=(), skipped=library)
    with progress.stage(f"build {precision} engine", len(bundle.manifest.graphs[precision].parts())) as advance:
        plans = tensorrt_build.build(bundle, precision, advance)
    return EngineOutcome(precision=precision, library=library.title, plans=tuple(plans), skipped=None)
