"""A long life of the control loop, with faults at random, in simulated time: no command may ever break a limit.

    python -m benchmarks.soak [--ticks 1000000] [--seed 0] [--quick] [--json]

The controller, with its executor, limiter and watchdogs, moves an arm that does what it is sent; around it the policy,
the arm, the clock, the machine and the user do everything they should not. Periods are up to half too short or too
long, and the clock is set back and ahead by anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.soak_world import SoakWorld
from benchmarks.used_limits import NOTHING_USED, Shares, judge
from vla_runtime.command import DONE, run
from vla_runtime.errors import WorkFailed
from vla_runtime.profiling.machine import this_machine
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState

_JUDGED_AT_ONCE = 20_000
_OVERLAP = 3  # targets: a jerk takes four
_ROUNDING = 1e-9
_QUICK = 20_000


@dataclass(frozen=True)
class Soak:
    """What came of it.

    simulated: time that passed for the arm, in [s]; seconds: for us. used: the most of each limit that any command
    used. faults, states, interventions: how many of each there were; states in ticks.
    """

    ticks: int
    commands: int
    simulated: float
    seconds: float
    used: Shares
    faults: dict[str, int]
    states: dict[str, int]
    interventions: dict[str, int]


def soak(ticks: int, seed: int, progress: Progress | None = None) -> Soak:
    """Live through so many ticks; raises `WorkFailed` where a command broke a limit."""
    began = time.perf_counter()
    world = SoakWorld(seed)
    judging = _Judging()
    states: Counter[str] = Counter()
    task = None if progress is None else progress.add_task("ticks", total=ticks)
    for count in range(1, ticks + 1):
        tick = world.tick()
        states[tick.state.name] += 1
        if tick.command is not None:
            if tick.state is ArmState.DISABLED:
                raise WorkFailed(f"tick {count} of seed {seed}: a disabled arm was sent a command")
            judging.add(world.true_time, tick.command, anew=world.begins_anew)
        if count % 10_000 == 0 and progress is not None and task is not None:
            progress.update(task, completed=count)
    judging.end()
    if not judging.used.kept(_ROUNDING):
        raise WorkFailed(f"seed {seed}: a command broke a limit, as shares of the limits: {judging.used}")
    return Soak(
        ticks,
        judging.commands,
        world.true_time - world.began,
        time.perf_counter() - began,
        judging.used,
        dict(sorted(world.faults.items())),
        dict(sorted(states.items())),
        {kind: number for kind, number in world.controller.interventions.items() if number},
    )


class _Judging:
    """Judges commands as one motion, except where it may begin anew."""

    def __init__(self) -> None:
        self.used = NOTHING_USED
        self.commands = 0
        self._times: list[float] = []
        self._positions: list[NDArray[np.float64]] = []

    def add(self, time: float, command: NDArray[np.float64], anew: bool) -> None:
        if anew:
            self.end()
        self.commands += 1
        self._times.append(time)
        self._positions.append(command)
        if len(self._times) >= _JUDGED_AT_ONCE:
            times, positions = self._times[-_OVERLAP:], self._positions[-_OVERLAP:]
            self.end()
            self._times, self._positions = times, positions

    def end(self) -> None:
        if self._times:
            self.used = self.used.worst(judge(self._times, self._positions, PIPER_LIMITS))
        self._times, self._positions = [], []


def main() -> int:
    parser = argparse.ArgumentParser(description="The control loop in simulated time, with faults at random.")
    parser.add_argument("--ticks", type=int, default=1_000_000, help="control periods (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK:,} ticks")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with Progress(console=Console(stderr=True)) as progress:
        found = soak(_QUICK if arguments.quick else arguments.ticks, arguments.seed, progress)
    if arguments.json:
        print(json.dumps({"machine": asdict(this_machine()), "seed": arguments.seed, **asdict(found)}, indent=2))
    else:
        Console().print(table(found))
    return DONE


def table(found: Soak) -> Table:
    """As a person reads it."""
    shown = Table(
        "what",
        "how much",
        title=f"{found.ticks:,} ticks, {found.simulated / 3600:.1f} h of the arm's time, in {found.seconds:.0f} s",
    )
    shown.add_row("commands sent", f"{found.commands:,}")
    for name in ("velocity", "acceleration", "jerk"):
        shown.add_row(f"most of the {name} limit", f"{getattr(found.used, name):.3%}")
    shown.add_row("beyond a position limit", f"{found.used.beyond:g} rad or m", end_section=True)
    for title, counts in (("fault", found.faults), ("ticks", found.states), ("intervention", found.interventions)):
        for name, number in counts.items():
            shown.add_row(f"{title}: {name}", f"{number:,}")
    return shown


if __name__ == "__main__":
    sys.exit(run(main))
