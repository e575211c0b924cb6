"""The four fates of a config file's fields, so that none is ever overlooked.

Every field is used; or known to concern training or the project's own loop alone; or may only have a value that changes
nothing; or it is unknown and refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.documents import validate
from vla_runtime.errors import BadInput

Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True)
class Unused:
    """Fields that no reader uses.

    written_by: project and release, for messages. without_effect: they never change what the policy answers. only: they
    do, and this value alone can be exported; absent means that value.
    """

    written_by: str
    without_effect: frozenset[str]
    only: Mapping[str, object]


def check_fields(contents: Contents, unused: Unused, *used: type[BaseModel]) -> None:
    """Raises `BadInput` for a field with a value that cannot be honoured, or one that nobody knows."""
    content, path = contents.config, contents.config_path
    for name, value in unused.only.items():
        if content.get(name, value) != value and not _is_off(content[name]):
            raise BadInput(f"{path}: {name} is {content[name]!r}; an export knows only {value!r}")
    known = unused.without_effect | unused.only.keys() | {name for model in used for name in model.model_fields}
    unknown = sorted(content.keys() - known)
    if unknown:
        raise BadInput(f"{path}: unknown field {', '.join(unknown)}: expected the {path.name} of {unused.written_by}")


def read_fields(contents: Contents, model: type[Fields]) -> Fields:
    """The fields of a model; raises `BadInput` naming those that are missing or malformed."""
    used = {name: value for name, value in contents.config.items() if name in model.model_fields}
    return validate(model, used, contents.config_path)


def _is_off(value: object) -> bool:
    """Whether an optional part of the project's loop is configured but not enabled."""
    return isinstance(value, dict) and value.get("enabled") is False
