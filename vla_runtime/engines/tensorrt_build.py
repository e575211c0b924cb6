"""Building plans with TensorRT or TensorRT-RTX, whose Python interfaces differ only in their name."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Part, Precision
from vla_runtime.engines import cache, cuda
from vla_runtime.engines.tensorrt_types import check_products, check_tensors, network_tensors
from vla_runtime.errors import BadInput, WorkFailed

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_FIRST_STRONGLY_TYPED = 10
_NOT_INSTALLED = (
    "neither TensorRT nor TensorRT-RTX is installed: on Jetson TensorRT comes with JetPack, "
    "elsewhere pip install 'vla-deploy[tensorrt]'"
)


@dataclass(frozen=True)
class Library:
    """One of the two modules, imported."""

    name: str
    module: Any

    @property
    def title(self) -> str:
        """As a report names it: ``TensorRT-RTX 1.7.1.116``."""
        return f"{_TITLES[self.name]} {self.module.__version__}"


def find_library() -> Library | str:
    """The library that builds on this machine, else the reason why none does.

    TensorRT comes first, but builds only where it sees a GPU; TensorRT-RTX also builds without one.
    """
    reasons = []
    if (full := _imported("tensorrt")) is not None:
        gpu = cuda.missing()
        if int(full.module.__version__.split(".")[0]) < _FIRST_STRONGLY_TYPED:
            reasons.append(f"{full.title} is installed but cannot build strongly typed: version 10 or newer is needed")
        elif gpu is not None:
            reasons.append(f"{full.title} is installed but builds only on a GPU, and {gpu}")
        else:
            return full
    return _imported("tensorrt_rtx") or (reasons[0] if reasons else _NOT_INSTALLED)


def available() -> str | None:
    """None where engines can be built, else the reason why not."""
    library = find_library()
    return library if isinstance(library, str) else None


def can_run() -> str | None:
    """None where engines can be built, loaded and run, else the reason why not."""
    library = find_library()
    if isinstance(library, str):
        return library
    gpu = cuda.missing()
    return None if gpu is None else f"{library.title} is installed but {gpu}"


def build(bundle: Bundle, precision: Precision, progress: Callable[[], None] | None = None) -> list[Path]:
    """The plans of a precision's graphs, in the order of `Graphs.parts`: from the cache, or built into it.

    With a GPU they are for that GPU; without one (TensorRT-RTX alone) for every GPU from Ampere on. ``progress`` is
    called after each graph. Raises `BadInput` for int8 and for a precision the bundle lacks; `WorkFailed` where no
    library can build, for a graph it cannot parse (naming the node) or build, and for one whose types are not the
    precision's.
    """
    if precision == "int8":
        raise BadInput("TensorRT builds no int8 engines from these graphs: choose fp16 or fp32, or use ONNX Runtime")
    if precision not in bundle.manifest.graphs:
        available_ones = ", ".join(bundle.manifest.graphs)
        raise BadInput(f"{bundle.root} has no {precision} graphs, it has {available_ones}: export it with --trt")
    library = find_library()
    if isinstance(library, str):
        raise WorkFailed(library)
    plans = []
    for part, graph in bundle.manifest.graphs[precision].parts().items():
        plans.append(_cached_or_built(library, bundle, part, graph, precision))
        if progress is not None:
            progress()
    return plans


class Log:
    """What a library says while it works: its errors are kept for the message of a failure, the rest is `logging`'s."""

    def __init__(self, library: Library) -> None:
        self._errors: list[str] = []
        ilogger = library.module.ILogger

        def log(_: object, severity: Any, message: str) -> None:
            if severity in (ilogger.INTERNAL_ERROR, ilogger.ERROR):
                self._errors.append(message)
            logging.getLogger(__name__).debug("%s: %s", library.title, message)

        # the base class is known only now, and its binding insists on being initialised by name
        kind = type("Listener", (ilogger,), {"__init__": lambda this: ilogger.__init__(this), "log": log})
        self.listener = kind()

    def last_error(self) -> str:
        """The last error since this log was made."""
        return self._errors[-1] if self._errors else "it gave no reason"


def _imported(name: str) -> Library | None:
    try:
        return Library(name, importlib.import_module(name))
    except (ImportError, OSError):
        return None


def _cached_or_built(library: Library, bundle: Bundle, part: Part, graph: str, precision: Precision) -> Path:
    targets = _targets(library)
    version = f"{library.name} {library.module.__version__}"
    key = cache.plan_key(bundle, graph, precision, device=_device(targets), library=version)
    path = cache.plan_path(bundle, key)
    if not cache.is_built(path, key):
        cache.store(path, key, _build_one(library, bundle, part, graph, precision, targets))
    return path


def _targets(library: Library) -> list[str]:
    """Compute capabilities to build for without a GPU; none with one: the builder then takes the GPU it sees.

    Turing (SM75) is left out: TensorRT-RTX has no float32 matrix product for it.
    """
    if cuda.missing() is None:
        return []
    known: dict[str, Any] = library.module.ComputeCapability.__members__
    return sorted((name for name in known if name.startswith("SM") and name != "SM75"), key=lambda name: int(name[2:]))


def _device(targets: list[str]) -> str:
    if targets:
        return f"no-gpu:{'+'.join(targets)}"
    driver = cuda.Driver()
    return f"{driver.device_name} ({driver.compute_capability})"


def _build_one(
    library: Library, bundle: Bundle, part: Part, graph: str, precision: Precision, targets: list[str]
) -> memoryview:
    trt, log = library.module, Log(library)
    builder = trt.Builder(log.listener)
    if builder is None:
        raise WorkFailed(f"{library.title} does not start: {log.last_error()}")
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    # the parser keeps the weights that the network refers to: it must outlive the build
    parser = trt.OnnxParser(network, log.listener)
    if not parser.parse_from_file(str(bundle.path(graph))):
        raise WorkFailed(f"{library.title} cannot parse {graph}: {_parse_error(parser)}")
    check_products(trt, network, graph, precision)
    check_tensors(part, graph, *network_tensors(network), bundle.manifest, precision)
    config = builder.create_builder_config()
    # TF32 keeps 10 bits of a float32 product: what a graph declares float32 is to be float32
    config.clear_flag(trt.BuilderFlag.TF32)
    if targets:
        config.num_compute_capabilities = len(targets)
        for n, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, target), n)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise WorkFailed(f"{library.title} cannot build {graph} in {precision}: {log.last_error()}")
    return memoryview(plan)


def _parse_error(parser: Any) -> str:
    if parser.num_errors == 0:
        return "it gave no reason"
    error = parser.get_error(0)
    return f"node {error.node_name() or error.node()} ({error.node_operator()}): {error.desc()}"
