"""Bundles by how they are made: a checkpoint and vla-export's own words."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from results.places import OUT, POLICY
from vla_runtime.bundle.bundle import MANIFEST, sha256
from vla_runtime.command import DONE
from vla_runtime.errors import BadInput, WorkFailed

_READ = ("--calibration", "--adapter", "--adapter-config", "--base")
_WRITTEN = "--save-pruned"


@dataclass(frozen=True)
class Recipe:
    """How a bundle is made.

    name: its directory's, of this recipe alone. flags: what follows ``vla-export CHECKPOINT``, but for ``-o``; graphs
    are float32 where they name no precision.
    """

    name: str
    checkpoint: Path
    flags: tuple[str, ...] = ()

    @property
    def bundle(self) -> Path:
        """Where it lies once `export` has returned."""
        return OUT / "bundles" / self.name


ORIGINAL = Recipe("original", POLICY)
"""The reference policy as it was trained."""


def export(recipe: Recipe) -> Path:
    """The bundle of ``recipe``, which is kept where the same was made from the same files before.

    vla-export runs in a process and on a thread of its own. Raises `WorkFailed` with what it said where it fails, and
    `BadInput` where a file that is read is missing.
    """
    identity, note = _identity(recipe), recipe.bundle.with_name(f"{recipe.name}.json")
    if _is_made(recipe, identity, note):
        return recipe.bundle
    note.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)
    program = str(Path(sys.executable).with_name("vla-export"))
    command = [program, str(recipe.checkpoint), *recipe.flags, "--json", "-o", str(recipe.bundle)]
    # What is exported here shall not become the bundle that other commands take by default.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_STATE_HOME": str(OUT / "state")}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode != DONE:
        said = answer.stderr.strip().splitlines()
        raise WorkFailed(f"vla-export of {recipe.name}: {said[-1] if said else f'exit code {answer.returncode}'}")
    partial = note.with_name(f".{note.name}.partial")
    partial.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
    partial.replace(note)
    return recipe.bundle


def export_all(recipes: Sequence[Recipe], workers: int) -> dict[str, Path]:
    """The bundle of every recipe, by its name, ``workers`` at a time; raises what `export` does, keeping the others.

    Raises `ValueError` where two of them have the same name.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) != len(names):
        raise ValueError(f"recipes of the same name among {', '.join(names)}")
    with ThreadPoolExecutor(workers) as pool:
        bundles = track(pool.map(export, recipes), "export", len(recipes), console=Console(stderr=True))
        return dict(zip(names, bundles, strict=True))


def _identity(recipe: Recipe) -> dict[str, object]:
    """What the bundle depends on: words, and files by their content."""
    flags, files = list(recipe.flags), {"checkpoint": _digest(recipe.checkpoint)}
    for n, flag in enumerate(flags[:-1]):
        if flag in _READ:
            files[flag] = _digest(Path(flags[n + 1]))
            flags[n + 1] = Path(flags[n + 1]).name
    return {"flags": flags, "files": files}


def _is_made(recipe: Recipe, identity: dict[str, object], note: Path) -> bool:
    written = [Path(path) for flag, path in zip(recipe.flags, recipe.flags[1:], strict=False) if flag == _WRITTEN]
    if not all(path.exists() for path in (recipe.bundle / MANIFEST, note, *written)):
        return False
    return bool(json.loads(note.read_text(encoding="utf-8")) == identity)


def _digest(path: Path) -> str:
    """Of a file, or of a directory's files and their names."""
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise BadInput(f"{path} is not there: make it before what is made of it")
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            found.update(f"{file.relative_to(path)} {sha256(file)}\n".encode())
    return found.hexdigest()
