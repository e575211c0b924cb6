from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_calibration.parquet import frames, rows
from vla_runtime.errors import BadInput

LENGTHS = (50, 3, 70)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three episodes in row groups that do not end where the episodes do."""
    places = [(episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)]
    content = pa.table(
        {
            "episode_index": [episode for episode, _ in places],
            "frame_index": [frame for _, frame in places],
            "name": [f"{episode}/{frame}" for episode, frame in places],
        }
    )
    pq.write_table(content, tmp_path / "table.parquet", row_group_size=40)
    return tmp_path / "table.parquet"


def test_only_the_frames_that_are_wanted(table: Path) -> None:
    wanted = {0: {0, 39, 40, 49}, 2: {0, 69}}
    found = [row["name"] for row in frames(table, ["name"], wanted)]
    assert found == ["0/0", "0/39", "0/40", "0/49", "2/0", "2/69"]
    assert list(frames(table, ["name"], {7: {0}})) == []


def test_every_row(table: Path) -> None:
    assert len(list(rows(table, ["frame_index"]))) == sum(LENGTHS)


def test_what_cannot_be_read_is_named(table: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"table.parquet has no column timestamp: the dataset is incomplete"):
        list(rows(table, ["name", "timestamp"]))
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"table.parquet cannot be read .*: copy the dataset again"):
        list(rows(table, ["name"]))
    with pytest.raises(BadInput, match=r"none.parquet cannot be read"):
        list(rows(tmp_path / "none.parquet", ["name"]))
