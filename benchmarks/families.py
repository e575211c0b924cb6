"""SmolVLA on the CPU: a bundle, our PyTorch model and LeRobot, from one checkpoint, taking turns on equal threads.

    python -m benchmarks.families [--lerobot-python PYTHON] [--threads N] [--rounds N] [--quick] [--json]

Writes a random checkpoint of full size (two cameras, ten flow steps, batch one), exports it in fp32 and int8, checks
that all contestants make the same chunk from the same observation and noise, and lets each make one in every round. In
the next round another begins. Ratios are taken within a round, where the machine was the same for all, against
LeRobot eager in float32 if it runs, else against our PyTorch model. ``--quick`` takes the tests' tiny policy, to show
that all runs. LeRobot 0.6.1 needs its own environment: tests/oracles/lerobot_tiny.py says how to make it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.contestants import BundleContestant, Contestant, Lap, LeRobotContestant, LeRobotProcess, TorchContestant
from benchmarks.full_size import GOLDENS, write_full_size
from vla_export.checkpoints.reading import read
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import GoldenSample, read_golden
from vla_runtime.command import DONE
from vla_runtime.command import run as run_command
from vla_runtime.errors import WorkFailed
from vla_runtime.profiling.machine import this_machine

WAYS = ("float32 eager", "bfloat16 eager", "float32 compiled", "bfloat16 compiled")
TORCH = "PyTorch float32"
# Half precision is not held to a limit: LeRobot's own bfloat16 is what it is.
LIMITS = {"int8": CHUNK_ERROR["int8"], "bfloat16": float("inf"), "": CHUNK_ERROR["fp32"]}


@dataclass(frozen=True)
class Result:
    """One contestant. error: relative, of its chunk against PyTorch's. laps: one per round."""

    name: str
    error: float
    laps: Sequence[Lap]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over the rounds."""

    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.lower:.3g}–{self.upper:.3g})"


def measure(lerobot_python: Path | None, threads: int, rounds: int, quick: bool) -> tuple[list[Result], dict[str, str]]:
    """Every contestant's laps, and LeRobot's versions; raises `WorkFailed` where two do not compute the same."""
    torch.set_num_threads(threads)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint, bundle = _policy(directory, quick)
        sample = read_golden(bundle.path(bundle.manifest.golden))[0]
        versions: dict[str, str] = {}
        contestants: list[Contestant] = []
        if lerobot_python is not None:
            exchange = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ways = WAYS[:2] if quick else WAYS
            process = LeRobotProcess(lerobot_python, checkpoint, sample, ways, threads, exchange)
            stack.enter_context(process)
            versions = process.answer()
            contestants += [LeRobotContestant(way, process) for way in ways]
        contestants += _ours(checkpoint, bundle, sample, threads)
        errors = {contestant.name: check(contestant, sample) for contestant in contestants}
        laps: dict[str, list[Lap]] = {contestant.name: [] for contestant in contestants}
        for n in track(range(rounds), "rounds", console=Console(stderr=True)):
            first = n % len(contestants)
            for contestant in contestants[first:] + contestants[:first]:
                laps[contestant.name].append(contestant.run()[0])
    return [Result(name, errors[name], found) for name, found in laps.items()], versions


def _policy(directory: Path, quick: bool) -> tuple[Path, Bundle]:
    """A checkpoint, and the bundle that `vla-export` makes of it."""
    checkpoint, output = directory / "checkpoint", directory / "bundle"
    if quick:
        shutil.copytree(GOLDENS / "smolvla", checkpoint)
    else:
        write_full_size("smolvla", "lerobot-0.6", checkpoint)
    program = "import sys; from vla_export.cli import main; sys.exit(main())"
    private = {f"XDG_{what}_HOME": str(directory / what.lower()) for what in ("STATE", "CACHE")}
    command = [sys.executable, "-c", program, str(checkpoint), "-o", str(output), "--precision", "fp32,int8"]
    subprocess.run(command, env=os.environ | private, stdout=subprocess.DEVNULL, check=True)
    return checkpoint, Bundle.open(output)


def _ours(checkpoint: Path, bundle: Bundle, sample: GoldenSample, threads: int) -> Iterator[Contestant]:
    yield TorchContestant(TORCH, read(checkpoint).model, sample, bundle.manifest.flow_steps)
    for precision in bundle.manifest.graphs:
        yield BundleContestant(f"bundle {precision}", bundle, precision, sample, threads)


def check(contestant: Contestant, sample: GoldenSample) -> float:
    """The error of the chunk that a contestant makes before its time is taken, twice: the first warms up."""
    contestant.run()
    _, chunk = contestant.run()
    error = float(np.linalg.norm(chunk - sample.chunk) / np.linalg.norm(sample.chunk))
    limit = next(limit for part, limit in LIMITS.items() if part in contestant.name)
    if not error <= limit:
        raise WorkFailed(f"{contestant.name} does not compute what PyTorch does: relative error {error:.1e}")
    return error


def baseline(results: Sequence[Result]) -> Result:
    """What the others are compared with."""
    return next((r for r in results if r.name == f"LeRobot {WAYS[0]}"), next(r for r in results if r.name == TORCH))


def ratios(base: Result, result: Result) -> Spread:
    """How many times as fast as the base, within each round."""
    return spread([theirs.seconds / ours.seconds for theirs, ours in zip(base.laps, result.laps, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Over the rounds."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(median, lower, upper)


def main() -> int:
    parser = argparse.ArgumentParser(description="SmolVLA on the CPU: ours and LeRobot's, taking turns.")
    parser.add_argument("--lerobot-python", type=Path, help="of an environment with LeRobot 0.6.1; without: ours only")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="the tests' tiny policy, to show that all runs")
    parser.add_argument("--json", action="store_true")
    return run_command(lambda: _benchmark(parser.parse_args()))


def _benchmark(arguments: argparse.Namespace) -> int:
    results, versions = measure(arguments.lerobot_python, arguments.threads, arguments.rounds, arguments.quick)
    (_print_json if arguments.json else _print_table)(arguments, results, versions)
    return DONE


def _print_json(arguments: argparse.Namespace, results: Sequence[Result], versions: Mapping[str, str]) -> None:
    base = baseline(results)
    rows: list[dict[str, Any]] = [
        dataclasses.asdict(result) | {"ratio": dataclasses.asdict(ratios(base, result))} for result in results
    ]
    content = {
        "machine": dataclasses.asdict(this_machine()),
        "lerobot": dict(versions),
        "threads": arguments.threads,
        "quick": arguments.quick,
        "baseline": base.name,
        "results": rows,
    }
    print(json.dumps(content, indent=2))


def _print_table(arguments: argparse.Namespace, results: Sequence[Result], versions: Mapping[str, str]) -> None:
    machine, base = this_machine(), baseline(results)
    size = "the tests' tiny policy" if arguments.quick else "SmolVLA, two cameras, ten steps"
    table = Table(title=f"{size}: {machine.cpu}, {arguments.threads} of {machine.cores} cores")
    for column in ("", "chunk [s]", "vision", "prefix", "steps", "CPU [s]", "ratio", "error"):
        table.add_column(column, justify="left" if column == "" else "right")
    for result in results:
        stages = [_stage(result, stage) for stage in ("vision", "prefix", "steps")]
        table.add_row(
            result.name,
            str(spread([lap.seconds for lap in result.laps])),
            *stages,
            f"{np.median([lap.cpu for lap in result.laps]):.3g}",
            str(ratios(base, result)),
            f"{result.error:.0e}",
        )
    packages = machine.packages | {f"LeRobot's {name}": version for name, version in versions.items()}
    table.caption = (
        f"medians (quartiles) of {arguments.rounds} rounds; ratio: times as fast as {base.name}; CPU: of all threads; "
        "error: of the chunk, against ours in PyTorch; "
        + ", ".join(f"{name} {version}" for name, version in packages.items())
        + ("" if versions else "; LeRobot was left out: give --lerobot-python")
    )
    Console().print(table)


def _stage(result: Result, stage: str) -> str:
    seconds = [lap.stages[stage] for lap in result.laps if stage in lap.stages]
    return f"{np.median(seconds):.3g}" if seconds else "–"


if __name__ == "__main__":
    sys.exit(main())
