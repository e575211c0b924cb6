"""Opening a policy bundle: nothing in it is used before all of it has been checked."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vla_runtime.bundle.manifest import SCHEMA_VERSION, Manifest
from vla_runtime.bundle.pickles import is_pickle
from vla_runtime.errors import BadInput

MANIFEST = "manifest.json"

# An external_data entry of an ONNX TensorProto as every protobuf writer lays it out: key "location", then its value.
_ONNX_LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])")


@dataclass(frozen=True)
class Bundle:
    """A policy bundle whose every file has been checked against its manifest."""

    root: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str, digest: Callable[[Path], str] | None = None) -> Bundle:
        """Read the manifest and check every file against it.

        digest: a file's SHA-256, by default computed from the file.
        Raises `BadInput`, naming the file and the remedy, for: no manifest, or one this runtime cannot read; a path
        that leaves the bundle; a link; a file that is missing, changed, not listed, or a pickle; ONNX weights stored
        outside the bundle. ONNX Runtime refuses the last once more when it loads the graph.
        """
        root = Path(path)
        manifest = _read_manifest(root)
        present = set(_regular_files(root))
        for name in sorted(present - set(manifest.files) - {MANIFEST}):
            raise BadInput(f"{root}: {name} is not listed in {MANIFEST}: remove it, or export the bundle again")
        for name, expected in manifest.files.items():
            if name not in present:
                raise BadInput(f"{root}: {name} is missing: copy the whole bundle again")
            _check_file(root, name, expected, digest or sha256)
        for name in manifest.files:
            if name.endswith(".onnx"):
                _check_external_data(root, name, manifest)
        return cls(root, manifest)

    def path(self, name: str) -> Path:
        """Where a file of the bundle lies; raises `BadInput` for one that the manifest does not list."""
        if name not in self.manifest.files:
            raise BadInput(f"{self.root}: the bundle has no file {name!r}")
        return self.root / name


def sha256(path: Path) -> str:
    """Hex digest of a file, read piece by piece: a bundle may be larger than the memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _read_manifest(root: Path) -> Manifest:
    path = root / MANIFEST
    if not path.is_file():
        raise BadInput(f"{root} is not a policy bundle: it has no {MANIFEST}; make one with vla-export -o {root}")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid JSON ({error}): copy or export the bundle again") from error
    if not isinstance(fields, dict):
        raise BadInput(f"{path} is not a JSON object: copy or export the bundle again")
    _check_schema_version(path, fields)
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first, *others = error.errors()
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        more = f" (and {len(others)} more)" if others else ""
        raise BadInput(f"{path}: {where}: {first['msg']}{more}: export the bundle again") from error


def _check_schema_version(path: Path, fields: dict[str, Any]) -> None:
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{path}: schema_version is {version!r}, this runtime knows {SCHEMA_VERSION}: "
            "update vla-deploy on this machine, or export the bundle again with this version"
        )


def _regular_files(root: Path) -> Iterator[str]:
    """Every file under the root, as a path relative to it with forward slashes; anything else is refused."""
    for directory, subdirectories, files in os.walk(root):
        for entry in (*subdirectories, *files):
            path = Path(directory, entry)
            name = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise BadInput(f"{root}: {name} is a link: copy the bundle with its files (cp -rL)")
            if stat.S_ISREG(mode):
                yield name
            elif not stat.S_ISDIR(mode):
                raise BadInput(f"{root}: {name} is neither a file nor a directory: remove it")


def _check_file(root: Path, name: str, expected: str, digest: Callable[[Path], str]) -> None:
    path = root / name
    if is_pickle(path):
        raise BadInput(f"{root}: {name} is a pickle, which can run code: a bundle never holds one; export it again")
    if digest(path) != expected:
        raise BadInput(f"{root}: {name} is not the file that was exported (wrong SHA-256): copy the bundle again")


def _check_external_data(root: Path, name: str, manifest: Manifest) -> None:
    for location in _external_data(root / name):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), location))
        if target not in manifest.files:
            raise BadInput(
                f"{root}: {name} keeps weights in {location!r}, no file of the bundle: export the bundle again"
            )


def _external_data(onnx: Path) -> set[str]:
    """Where an ONNX file says its weights are. Shape: relative paths, one per file, as written."""
    if onnx.stat().st_size == 0:
        return set()
    locations = set()
    with onnx.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _ONNX_LOCATION.finditer(content):
            length = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(match.group(1)))
            locations.add(content[match.end() : match.end() + length].decode(errors="replace"))
    return locations
