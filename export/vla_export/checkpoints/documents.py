"""Reading the small files beside the weights: each fault is one line that names the file and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from vla_runtime.errors import BadInput

Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `BadInput` where it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadInput(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} must hold a JSON object")
    return content


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; raises `BadInput` where it holds anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} must hold a mapping")
    return content


def validate(model: type[Model], content: dict[str, Any], path: Path) -> Model:
    """``content`` as a ``model``; raises `BadInput` naming up to three faulty fields of the file."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [f"{'.'.join(str(part) for part in e['loc']) or 'the whole'}: {e['msg']}" for e in error.errors()]
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise BadInput(f"{path}: {'; '.join(faults[:3])}{more}") from error
