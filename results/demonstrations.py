"""What the studies train on: ``python -m results.demonstrations`` makes all of it, and keeps what is there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from rich.progress import track

from reference.demonstrations import write_demonstrations
from results.places import OUT
from results.setting import SHIFTED, TASKS
from vla_runtime.command import DONE, run
from vla_runtime.sim.perturbation import NOMINAL, Perturbation

ADAPTING, FINETUNING = 400, 300  # demonstrations of each task
WORKERS = 2


def shifted(number: int = ADAPTING) -> list[Path]:
    """Directories, one a task, of so many demonstrations each in the shifted setting; made where missing."""
    return _of_every_task("shifted", SHIFTED, number)


def nominal(number: int = FINETUNING) -> list[Path]:
    """The same in the setting that the base policy was trained in: the first of its own demonstrations."""
    return _of_every_task("nominal", NOMINAL, number)


def _of_every_task(setting: str, perturbation: Perturbation, number: int) -> list[Path]:
    directories = [OUT / "demonstrations" / f"{setting}-{task}" for task in TASKS]
    for task, directory in zip(TASKS, directories, strict=True):
        write_demonstrations(
            directory,
            task,
            number,
            workers=WORKERS,
            perturbation=perturbation,
            progress=_progress,
        )
    return directories


def _progress(shards: Iterable[Path], total: int) -> Iterable[Path]:
    return track(shards, "demonstrations", total) if total else shards


def main() -> int:
    """Entry point; returns the exit code."""
    for directory in (*shifted(), *nominal()):
        print(directory)
    return DONE


if __name__ == "__main__":
    sys.exit(run(main))
