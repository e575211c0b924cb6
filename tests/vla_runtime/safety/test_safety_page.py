"""The page that says what keeps the arm safe says what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vla_runtime.safety.command_motion import brake
from vla_runtime.safety.controller import ControlSettings
from vla_runtime.safety.interventions import KINDS
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import TRANSITIONS, ArmState
from vla_runtime.safety.workspace import Workspace

PAGE = (Path(__file__).parents[3] / "docs" / "safety.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for cells in (line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|"))
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_intervention_is_explained(kind):
    assert f"`{kind}`" in PAGE


@pytest.mark.parametrize("name", [f.name for f in fields(ControlSettings)])
def test_every_setting_is_there_with_its_default(name):
    default, said = getattr(ControlSettings(), name), ROWS[name][0].split()[0]
    if isinstance(default, str):
        assert said == default
    elif name == "watchdogs":
        assert (said, dict(default)) == ("none", {})
    elif name == "park_positions":
        assert (float(said), np.any(default)) == (0, False)
    else:
        assert float(said) == default


@pytest.mark.parametrize("name", [f.name for f in fields(Workspace)])
def test_the_workspace_is_there_with_its_defaults(name):
    said = [float(part.replace("−", "-")) for part in ROWS[f"workspace.{name}"][0].removesuffix(" m").split(", ")]
    np.testing.assert_array_equal(said, np.atleast_1d(getattr(Workspace(), name)))


def test_every_watchdogs_time_is_its_setting():
    rows = [line.split("|") for line in PAGE.split("## Watchdogs")[1].split("##")[0].splitlines() if "`" in line]
    told = {row[2].strip(" `"): row[3].strip() for row in rows if len(row) > 4}
    assert told.pop("watchdogs") == "none declared"
    assert {name: float(said.split()[0]) for name, said in told.items()} == {
        name: getattr(ControlSettings(), name) for name in told
    }
    assert set(told) == {
        "chunk_timeout",
        "feedback_timeout",
        "overrun_timeout",
        "max_future",
        "max_gap",
        "enable_timeout",
    }


def test_the_way_to_rest_is_as_long_as_it_says():
    path = brake(1.0, 0.0, float(PIPER_LIMITS.acceleration[0]), float(PIPER_LIMITS.jerk[0]))
    assert f"{path.duration:.3f} s and {path.stop:.4f} rad" in PAGE.replace("\n", " ")


@pytest.mark.parametrize("row", ["lower", "upper", "velocity", "acceleration", "jerk"])
def test_the_limits_are_the_defaults(row):
    said = [float(cell.split()[0].replace("−", "-")) for cell in ROWS[row]]
    assert said == getattr(PIPER_LIMITS, row).tolist()


def test_the_diagram_shows_the_transitions_that_are_allowed():
    drawn = set()
    for line in PAGE.splitlines():
        start, arrow, end = line.strip().partition(" --> ")
        if arrow and start != "[*]":
            drawn.add((ArmState[start], ArmState[end.split(":")[0]]))
    allowed = {(start, end) for start, ends in TRANSITIONS.items() for end in ends}
    assert drawn <= allowed
    assert {pair for pair in allowed - drawn if pair[1] is not ArmState.DISABLED} == set()
