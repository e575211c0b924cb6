"""Rows of a LeRobot dataset's Parquet files, a page of them in memory at a time."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vla_runtime.errors import BadInput

EPISODE, FRAME = "episode_index", "frame_index"

_ROWS_AT_ONCE = 32  # images may lie in the rows


def rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every row of a file as a dictionary of ``columns``; raises `BadInput` where it is damaged or lacks a column."""
    for batch in _batches(path, columns, None):
        yield from batch.select(columns).to_pylist()


def frames(path: Path, columns: Sequence[str], wanted: Mapping[int, Container[int]]) -> Iterator[dict[str, Any]]:
    """The rows of the frames ``wanted`` of each episode, as dictionaries of ``columns``, in the file's order.

    Row groups of other episodes are not read. Raises `BadInput` like `rows`.
    """
    for batch in _batches(path, [*columns, EPISODE, FRAME], wanted):
        places = zip(batch.column(EPISODE).to_pylist(), batch.column(FRAME).to_pylist(), strict=True)
        for n, (episode, frame) in enumerate(places):
            if frame in wanted.get(episode, ()):
                yield {column: batch.column(column)[n].as_py() for column in columns}


def column_names(path: Path) -> list[str]:
    """The columns of a file; raises `BadInput` where it is missing or damaged."""
    import pyarrow.parquet as pq

    with _readable(path):
        return list(pq.read_schema(path).names)


def _batches(path: Path, columns: Sequence[str], wanted: Mapping[int, Container[int]] | None) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as file:
        missing = [column for column in columns if column not in file.schema_arrow.names]
        if missing:
            raise BadInput(f"{path} has no column {', '.join(missing)}: the dataset is incomplete")
        groups = [n for n in range(file.num_row_groups) if wanted is None or _may_hold(file, n, wanted)]
        yield from file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=list(dict.fromkeys(columns)))


def _may_hold(file: Any, group: int, episodes: Mapping[int, Any]) -> bool:
    """Whether one of the episodes can be in a row group, by its statistics."""
    metadata = file.metadata.row_group(group)
    for column in map(metadata.column, range(metadata.num_columns)):
        if column.path_in_schema == EPISODE and column.statistics is not None and column.statistics.has_min_max:
            return any(column.statistics.min <= number <= column.statistics.max for number in episodes)
    return True


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read ({error}): copy the dataset again") from error
