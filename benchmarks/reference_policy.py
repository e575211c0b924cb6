"""The reference policy in closed loop, from the committed weights: the model card's figures, with one command.

    python -m benchmarks.reference_policy [--episodes 200] [--quick] [--json]

Exports ``reference/weights/policy`` as it is and runs `vla-eval` on seeds that no demonstration was made from: every
task, and every task with the instruction naming another cube than the scene's seed does.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_runtime.profiling.machine import this_machine
from vla_runtime.sim.episode import TASKS

WEIGHTS = Path(__file__).resolve().parents[1] / "reference" / "weights" / "policy"
QUICK_EPISODES = 10


@dataclass(frozen=True)
class Row:
    """One task over seeds 0 to n - 1; intervals are Wilson's at 95 %. holding is achieved at the end, too."""

    task: str
    swapped: bool
    n: int
    success: float
    success_interval: tuple[float, float]
    holding: float
    holding_interval: tuple[float, float]
    seconds_to_success: float | None


def measure(episodes: int, weights: Path = WEIGHTS) -> list[Row]:
    """Export the weights and evaluate them, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name) / "bundle"
        _run("vla_export.cli", str(weights), "-o", str(bundle), "--json")
        return [_row(bundle, task, swapped, episodes) for task in TASKS for swapped in (False, True)]


def _row(bundle: Path, task: str, swapped: bool, episodes: int) -> Row:
    directory = bundle.with_name(f"{task}-{swapped}")
    words = [str(bundle), "--task", task, "--episodes", str(episodes), "-o", str(directory), "--json"]
    (found,) = json.loads(_run("vla_evaluation.cli", *words, *(["--swap"] if swapped else [])))["rows"]
    return Row(
        task=task,
        swapped=swapped,
        n=found["success"]["n"],
        success=found["success"]["rate"],
        success_interval=_interval(found["success"]),
        holding=found["holding"]["rate"],
        holding_interval=_interval(found["holding"]),
        seconds_to_success=found["succeeded_at"],
    )


def _interval(share: dict[str, Any]) -> tuple[float, float]:
    return share["lower"], share["upper"]


def _run(module: str, *arguments: str) -> str:
    program = f"import sys; from {module} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="The reference policy in closed loop, from the committed weights.")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPISODES} episodes each")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = measure(QUICK_EPISODES if arguments.quick else arguments.episodes)
    machine = this_machine()
    if arguments.json:
        content = {"machine": dataclasses.asdict(machine), "rows": [dataclasses.asdict(row) for row in rows]}
        print(json.dumps(content, indent=2))
        return
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    table = Table("task", "instruction", "n", "success", "holding at the end", "time to success", caption=packages)
    table.title = f"{machine.cpu}, {machine.cores} cores; GPU: {machine.gpu or 'none'}"
    for row in rows:
        table.add_row(
            row.task,
            "names another cube" if row.swapped else "the scene's own",
            str(row.n),
            _share(row.success, row.success_interval),
            _share(row.holding, row.holding_interval),
            "–" if row.seconds_to_success is None else f"{row.seconds_to_success:.1f} s",
        )
    Console().print(table)


def _share(rate: float, interval: tuple[float, float]) -> str:
    return f"{rate:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


if __name__ == "__main__":
    main()
