"""The statistics of a VLA-GSE run against a policy's normalisation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_export.adapters.action_statistics import check_action_statistics
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.errors import BadInput

# Two joints from -1 to 3 and from 0 to 0.5, and a gripper that is left as it is.
ACTION = Space(
    dimensions=tuple(Dimension(name=f"joint{n}", unit="rad") for n in (1, 2, 3)),
    normalisation=Normalisation(mode="quantiles", offset=(1.0, 0.25, 0.0), scale=(2.0, 0.25, 1.0)),
    padded_to=3,
)
RUN = {"action": {"q01": [-1.0, 0.0, 5.0], "q99": [3.0, 0.5, 9.0], "mask": [True, True, False], "mean": [0, 0, 0]}}


def write(directory: Path, content: object) -> Path:
    path = directory / "dataset_statistics.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_same_range_passes_whichever_data_set_it_is(tmp_path: Path) -> None:
    other = {"action": {"q01": [0.0], "q99": [1.0]}}
    check_action_statistics(write(tmp_path, {"other": other, "robot": RUN}), ACTION)


@pytest.mark.parametrize(
    "change",
    [
        {"q99": [3.01, 0.5, 9.0]},
        {"q01": [-1.0, 0.001, 5.0]},
        {"mask": [True, True, True]},
        {"mask": None},
        {"q01": [-1.0, 0.0], "q99": [3.0, 0.5], "mask": [True, True]},
    ],
)
def test_another_range_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write(tmp_path, {"robot": {"action": {**RUN["action"], **change}}})
    with pytest.raises(BadInput, match="normalised otherwise than any of robot"):
        check_action_statistics(path, ACTION)


@pytest.mark.parametrize("content", [{"robot": {}}, {"robot": {"action": {"q01": ["?"], "q99": [1]}}}, {"robot": 3}])
def test_a_file_that_holds_no_statistics_is_named(tmp_path: Path, content: object) -> None:
    with pytest.raises(BadInput, match=r"dataset_statistics\.json: robot"):
        check_action_statistics(write(tmp_path, content), ACTION)
