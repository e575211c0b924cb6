"""The page that says what keeps the arm safe says what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vla_runtime.safety.controller import ControlSettings
from vla_runtime.safety.interventions import KINDS
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import TRANSITIONS, ArmState

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
    default = getattr(ControlSettings(), name)
    if name == "park_positions":
        assert not np.any(default)
        default = 0
    assert float(ROWS[name][0].split()[0]) == default


@pytest.mark.parametrize("row", ["lower", "upper", "velocity"])
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
