"""Which policies the study of width judges, and in which order."""

from __future__ import annotations

from results import width


def test_both_ends_and_chance_of_every_module() -> None:
    study = width.study([0.25, 0.1], 3, 7)
    as_cut, more, finetuned, more_finetuned = study.tiers
    assert as_cut[0].name == "original"
    assert finetuned[0].name == "whole-finetuned-7"
    found = {(trial.cut.module, trial.cut.method, trial.cut.draw, trial.cut.asked) for trial in as_cut[1:]}
    assert found == {
        (module, method, draw, ratio)
        for module in ("language.mlp", "language.heads")
        for method, draw in (("high", None), ("low", None), ("random", 0))
        for ratio in (0.25, 0.1)
    }
    assert {trial.cut.draw for trial in more} == {1, 2}
    assert len(more) == 2 * 2 * 2
    names = [trial.name for tier in study.tiers for trial in tier]
    assert len(set(names)) == len(names)
    assert [trial.cut for trial in finetuned] == [trial.cut for trial in as_cut]
    assert [trial.cut for trial in more_finetuned] == [trial.cut for trial in more]
    assert {(panel.module, panel.task) for panel in study.panels} == {
        (module, task) for module in ("language.mlp", "language.heads") for task in ("lift", "reach")
    }
