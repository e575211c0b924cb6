from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_calibration import dataset
from vla_calibration.dataset import CalibrationSet, StateDimension
from vla_runtime.errors import BadInput

RNG = np.random.default_rng(0)
DIMENSIONS = (StateDimension(name="joint1", unit="rad"), StateDimension(name="gripper", unit="m"))


def example(n: int = 3) -> CalibrationSet:
    return CalibrationSet(
        images={
            "side": RNG.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8),
            "wrist": RNG.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8),
        },
        state=RNG.normal(size=(n, 2)).astype(np.float32),
        stamps=1.7e9 + np.arange(n) * 0.5,
        dimensions=DIMENSIONS,
        task="reach the red cube",
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    dataset.write(example(), tmp_path / "set")
    return tmp_path / "set"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    calibration = example()
    dataset.write(calibration, tmp_path / "deep" / "set")
    again = dataset.read(tmp_path / "deep" / "set")
    assert list(again.images) == ["side", "wrist"]
    for camera, images in calibration.images.items():
        np.testing.assert_array_equal(again.images[camera], images)
    np.testing.assert_array_equal(again.state, calibration.state)
    np.testing.assert_array_equal(again.stamps, calibration.stamps)
    assert (again.dimensions, again.task, len(again)) == (DIMENSIONS, "reach the red cube", 3)


def test_a_set_without_a_task(tmp_path: Path) -> None:
    dataset.write(replace(example(), task=None), tmp_path / "set")
    assert dataset.read(tmp_path / "set").task is None


def test_nothing_is_overwritten_and_nothing_half_written_is_left(written: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        dataset.write(example(), written)
    assert [path.name for path in written.parent.iterdir()] == ["set"]
    assert sorted(path.name for path in written.iterdir()) == [dataset.DESCRIPTION, dataset.OBSERVATIONS]


def test_a_changed_byte_is_refused(written: Path) -> None:
    observations = written / dataset.OBSERVATIONS
    content = bytearray(observations.read_bytes())
    content[-1] ^= 1
    observations.write_bytes(content)
    with pytest.raises(BadInput, match="SHA-256"):
        dataset.read(written)


def test_missing_parts_are_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is not a calibration set"):
        dataset.read(tmp_path)
    (written / dataset.OBSERVATIONS).unlink()
    with pytest.raises(BadInput, match=r"observations\.safetensors is missing"):
        dataset.read(written)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"count": 4}, "3 observations"),
        ({"cameras": ["side"]}, "expected images.side, stamps, state"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "files"),
        ({"state": [{"name": "joint1", "unit": "deg"}]}, "state.0.unit"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(written: Path, change: dict[str, object], line: str) -> None:
    path = written / dataset.DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadInput, match=line):
        dataset.read(written)


def test_a_description_that_is_no_json_is_refused(written: Path) -> None:
    (written / dataset.DESCRIPTION).write_text("{")
    with pytest.raises(BadInput, match="not valid JSON"):
        dataset.read(written)


def test_shapes_that_disagree_are_refused() -> None:
    good = example()
    with pytest.raises(BadInput, match="state"):
        replace(good, state=good.state[:, :1])
    with pytest.raises(BadInput, match="camera wrist"):
        replace(good, images={**good.images, "wrist": good.images["wrist"][:2]})
    with pytest.raises(BadInput, match="camera side"):
        replace(good, images={"side": good.images["side"].astype(np.float32)})
    with pytest.raises(BadInput, match="at least one"):
        replace(good, images={})
