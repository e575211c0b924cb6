"""Which demonstrations the studies train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results import demonstrations
from results.setting import SHIFTED, TASKS
from vla_runtime.sim.perturbation import NOMINAL


@pytest.mark.parametrize(("made", "perturbation"), [("shifted", SHIFTED), ("nominal", NOMINAL)])
def test_as_many_of_every_task_in_the_setting_that_is_asked_for(
    made: str, perturbation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(directory: Path, task: str, number: int, **options: Any) -> None:
        written.append((directory, task, number, options["perturbation"]))
        assert list(options["progress"]([directory], 0)) == [directory]

    monkeypatch.setattr(demonstrations, "OUT", tmp_path)
    monkeypatch.setattr(demonstrations, "write_demonstrations", write)
    found = getattr(demonstrations, made)(7)
    assert written == [(path, task, 7, perturbation) for path, task in zip(found, TASKS, strict=True)]
    assert len(set(found)) == len(TASKS)
