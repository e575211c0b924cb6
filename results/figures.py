"""What a study found, as it is committed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from results.places import FIGURES, ROOT
from vla_runtime.errors import BadInput
from vla_runtime.profiling.machine import this_machine


def write(study: str, content: dict[str, Any]) -> Path:
    """Write ``content`` with the machine and the versions it was found on; the same figures give the same bytes.

    Dataclasses and pydantic models become objects. Raises `ValueError` for a number that is none and for a path of this
    machine.
    """
    text = json.dumps({"machine": this_machine(), **content}, indent=2, allow_nan=False, default=_plain) + "\n"
    if str(ROOT) in text:
        raise ValueError(f"the figures of {study} name {ROOT}, which is a place on this machine alone")
    path = _path(study)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def read(study: str) -> dict[str, Any]:
    """What `write` wrote; raises `BadInput` where the study has not been made."""
    path = _path(study)
    if not path.is_file():
        raise BadInput(f"no figures of {study}: make them with python -m results.{study}")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _path(study: str) -> Path:
    return FIGURES / f"{study}.json"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no place among figures")
