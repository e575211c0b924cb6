"""``meta/info.json`` of a LeRobot dataset: its format, its features and where its files lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vla_runtime.errors import BadInput

FILE: Final = "meta/info.json"
STATE: Final = "observation.state"
IMAGES: Final = "observation.images."

Version = Literal["v2.0", "v2.1", "v3.0"]


class Feature(BaseModel):
    """One column of the dataset: ``video`` and ``image`` are cameras, other dtypes are numpy's."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    names: Any = None


class Info(BaseModel):
    """What is needed of the file.

    data_path, video_path: templates of paths below the dataset's root, filled by `path`.
    chunks_size: episodes in one directory of a v2 dataset.
    """

    model_config = ConfigDict(frozen=True)

    codebase_version: Version
    fps: float = Field(gt=0)
    features: dict[str, Feature]
    chunks_size: int = Field(default=1000, gt=0)
    data_path: str
    video_path: str | None = None

    @property
    def cameras(self) -> Mapping[str, str]:
        """Camera → the key of its feature."""
        return {
            key.removeprefix(IMAGES): key
            for key, feature in self.features.items()
            if feature.dtype in ("video", "image")
        }


def read_info(root: Path) -> Info:
    """Raises `BadInput` for a file that is not LeRobot's, or of a format that is not known."""
    path = root / FILE
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error}): copy the dataset again") from error
    version = fields.get("codebase_version") if isinstance(fields, dict) else None
    known = get_args(Version)
    if version not in known:
        raise BadInput(
            f"{path}: codebase_version is {version!r}; known are {', '.join(known)}: convert the dataset with LeRobot"
        )
    try:
        return Info.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: {where}: {first['msg']}: copy the dataset again") from error


def fill(root: Path, template: str, **values: int | str) -> Path:
    """The path a template of ``info.json`` stands for; raises `BadInput` where it asks for more than ``values``."""
    try:
        return root / template.format(**values)
    except (LookupError, ValueError, AttributeError) as error:
        raise BadInput(f"{root / FILE}: the path {template!r} cannot be filled ({error})") from error
