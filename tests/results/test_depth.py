"""Which policies the study of depth judges, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import depth
from vla_export.checkpoints.checkpoint import Interface
from vla_export.observations import Observations, synthetic


def few(interface: Interface, directory: Path) -> Observations:
    return synthetic(interface, 3)


def test_every_choice_is_judged_as_cut_and_finetuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(depth, "calibration", lambda tasks, shifted: tmp_path)
    monkeypatch.setattr(depth, "recorded", few)
    study = depth.study([0.17], 2, 7)
    as_cut, finetuned, more, more_finetuned = study.tiers
    assert as_cut[0].name == "original"
    assert finetuned[0].name == "whole-finetuned-7"
    assert [(trial.cut.method, trial.cut.draw) for trial in as_cut] == [
        ("whole", None),
        ("cka", None),
        ("gate", None),
        ("gate-kv", None),
        ("random", 0),
    ]
    assert [trial.cut.draw for trial in more] == [1]
    assert [trial.cut for trial in finetuned] == [trial.cut for trial in as_cut]
    assert [trial.cut for trial in more_finetuned] == [trial.cut for trial in more]
    assert {trial.steps for trial in (*as_cut, *more)} == {0}
    assert {trial.steps for trial in (*finetuned, *more_finetuned)} == {7}
    assert {trial.cut.fraction for trial in as_cut[1:]} == {1 / 8}
