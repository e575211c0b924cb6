"""Which bundle a command means when it is not told: the one in the environment, else the last one exported here."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from vla_runtime.errors import BadInput


def remember(bundle: Path | str) -> None:
    """Note a bundle as the last one exported on this machine."""
    note = _note()
    note.parent.mkdir(parents=True, exist_ok=True)
    partial = note.with_name(f".{note.name}.partial-{secrets.token_hex(4)}")
    partial.write_text(f"{os.path.abspath(bundle)}\n", encoding="utf-8")
    partial.replace(note)


def default_bundle() -> Path:
    """``$VLA_BUNDLE``, else the last bundle exported on this machine.

    Raises `BadInput` where neither is known, or what is known is no longer there.
    """
    if chosen := os.environ.get("VLA_BUNDLE"):
        return _existing(Path(chosen), "VLA_BUNDLE names")
    if not _note().is_file():
        raise BadInput("no bundle given and none exported on this machine: run vla-export in a checkpoint's directory")
    return _existing(Path(_note().read_text(encoding="utf-8").strip()), "the last bundle exported here was")


def _note() -> Path:
    """The file that remembers, under ``$XDG_STATE_HOME`` (XDG Base Directory Specification 0.8)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "vla_runtime" / "last_bundle"


def _existing(path: Path, origin: str) -> Path:
    if not path.is_dir():
        raise BadInput(f"{origin} {path}, which is not there: give a bundle, or make one with vla-export")
    return path
