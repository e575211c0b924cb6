"""Where each episode of a LeRobot dataset lies, in the formats v2 (a file per episode) and v3 (many in one)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vla_calibration import parquet
from vla_calibration.lerobot_info import FILE, Info, fill
from vla_calibration.parquet import EPISODE
from vla_runtime.errors import BadInput

_V2_TASKS, _V2_EPISODES = "meta/tasks.jsonl", "meta/episodes.jsonl"
_V3_TASKS, _V3_EPISODES = "meta/tasks.parquet", "meta/episodes"
_V3_PLACE, _V3_START = ("chunk_index", "file_index"), "from_timestamp"


@dataclass(frozen=True)
class Film:
    """Where an episode is in a video file: ``start`` [s] is the time of its first frame."""

    path: Path
    start: float


@dataclass(frozen=True)
class EpisodeFiles:
    """One episode: how many frames it has, the tasks that occur in it, its table and its films by feature."""

    number: int
    length: int
    tasks: tuple[str, ...]
    table: Path
    films: Mapping[str, Film]


def read_tasks(root: Path, info: Info) -> dict[int, str]:
    """The text of each task by its index; raises `BadInput`."""
    if info.codebase_version == "v3.0":
        path = root / _V3_TASKS
        # Written from a pandas index, which in older releases had no name.
        text = "__index_level_0__" if "__index_level_0__" in parquet.column_names(path) else "task"
        entries = [(row["task_index"], row[text]) for row in parquet.rows(path, ["task_index", text])]
    else:
        path = root / _V2_TASKS
        entries = [(line.get("task_index"), line.get("task")) for line in _lines(path)]
    return dict(_checked(list[tuple[int, str]], entries, path))


def read_episodes(root: Path, info: Info, films: Sequence[str]) -> list[EpisodeFiles]:
    """All episodes in order; ``films``: the features whose videos are wanted. Raises `BadInput`."""
    if films and info.video_path is None:
        raise BadInput(f"{root / FILE}: video_path is missing, but {', '.join(films)} are videos")
    read = _read_v3 if info.codebase_version == "v3.0" else _read_v2
    return sorted(read(root, info, films), key=lambda episode: episode.number)


def _read_v2(root: Path, info: Info, films: Sequence[str]) -> Iterator[EpisodeFiles]:
    path = root / _V2_EPISODES
    for entry in _lines(path):
        number = _checked(int, entry.get(EPISODE), path)
        place = {"episode_chunk": number // info.chunks_size, EPISODE: number}
        yield _episode(
            path,
            entry,
            fill(root, info.data_path, **place),
            {key: Film(fill(root, info.video_path or "", video_key=key, **place), 0.0) for key in films},
        )


def _read_v3(root: Path, info: Info, films: Sequence[str]) -> Iterator[EpisodeFiles]:
    paths = sorted((root / _V3_EPISODES).glob("*/*.parquet"))
    if not paths:
        raise BadInput(f"{root / _V3_EPISODES} holds no Parquet file: copy the whole dataset again")
    places = {"data": "data", **{key: f"videos/{key}" for key in films}}
    columns = [f"{place}/{part}" for place in places.values() for part in _V3_PLACE]
    columns += [f"{places[key]}/{_V3_START}" for key in films]
    for path in paths:
        for row in parquet.rows(path, [EPISODE, "length", "tasks", *columns]):
            at = {what: {part: row[f"{place}/{part}"] for part in _V3_PLACE} for what, place in places.items()}
            yield _episode(
                path,
                row,
                fill(root, info.data_path, **at["data"]),
                {
                    key: Film(
                        fill(root, info.video_path or "", video_key=key, **at[key]),
                        _checked(float, row[f"{places[key]}/{_V3_START}"], path),
                    )
                    for key in films
                },
            )


def _episode(path: Path, entry: Mapping[str, Any], table: Path, films: Mapping[str, Film]) -> EpisodeFiles:
    return EpisodeFiles(
        number=_checked(int, entry.get(EPISODE), path),
        length=_checked(int, entry.get("length"), path),
        tasks=_checked(tuple[str, ...], entry.get("tasks"), path),
        table=table,
        films=films,
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    try:
        content = path.read_text(encoding="utf-8")
        for line in content.split("\n"):
            if line.strip():
                yield _checked(dict[str, Any], json.loads(line), path)
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} cannot be read as lines of JSON ({error}): copy the dataset again") from error


def _checked(kind: Any, value: Any, path: Path) -> Any:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise BadInput(f"{path}: {value!r}: {error.errors()[0]['msg']}: copy the dataset again") from error
