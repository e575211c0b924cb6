"""Where built engines (plans) are kept: on the machine that built them, never in a bundle, because a plan is code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vla_runtime.bundle.bundle import Bundle, sha256
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput, WorkFailed


@dataclass(frozen=True)
class PlanKey:
    """Everything a plan depends on; another value of any part is another plan.

    graph: the ONNX file's path in the bundle. files: SHA-256 of the graph and of every file its weights may be in.
    device: the GPU's name and compute capability, or ``no-gpu:`` and the targets it was built for without one.
    library: module and version, as in ``tensorrt_rtx 1.7.1.116``.
    """

    graph: str
    files: Mapping[str, str]
    precision: Precision
    device: str
    library: str
    platform: str = field(default_factory=lambda: f"{platform.system()} {platform.machine()}")

    @property
    def digest(self) -> str:
        """SHA-256 over all parts, in hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def plan_key(bundle: Bundle, graph: str, precision: Precision, device: str, library: str) -> PlanKey:
    """The key of one graph's plan. Weights may be in any file of the bundle that is not known to be something else."""
    manifest = bundle.manifest
    others = {manifest.golden, manifest.tokenizer.file}
    files = {
        name: digest
        for name, digest in manifest.files.items()
        if name == graph or not (name in others or name.endswith(".onnx") or name.startswith("report/"))
    }
    return PlanKey(graph, files, precision, device, library)


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/vla_runtime/engines``, by default under ``~/.cache`` (XDG Base Directory Specification 0.8)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "vla_runtime" / "engines"


def plan_path(bundle: Bundle, key: PlanKey) -> Path:
    """Where the key's plan is kept, built or not; raises `BadInput` for a cache inside the bundle."""
    directory = cache_directory()
    if directory.resolve().is_relative_to(bundle.root.resolve()):
        raise BadInput(f"the engine cache {directory} is inside the bundle {bundle.root}: set XDG_CACHE_HOME elsewhere")
    return directory / f"{Path(key.graph).stem}.{key.precision}.{key.digest}.plan"


def is_built(path: Path, key: PlanKey) -> bool:
    """Whether the plan at ``path`` is whole and its sidecar says that it was built for this key."""
    try:
        noted = json.loads(_sidecar(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    return path.is_file() and bool(noted == _note(key, sha256(path)))


def store(path: Path, key: PlanKey, plan: bytes | memoryview) -> None:
    """Keep a plan and, after it, the sidecar that makes it valid; whoever reads meanwhile sees the old or the new."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, plan)
        note = json.dumps(_note(key, hashlib.sha256(plan).hexdigest()), indent=2)
        _write(_sidecar(path), note.encode())
    except OSError as error:
        raise WorkFailed(f"the engine cannot be kept in {path.parent}: {error.strerror}; set XDG_CACHE_HOME") from error


def _note(key: PlanKey, digest: str) -> dict[str, object]:
    return {"key": asdict(key), "plan_sha256": digest}


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _write(path: Path, content: bytes | memoryview) -> None:
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
