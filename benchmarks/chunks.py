"""What the arm is asked where one action chunk takes over from another, for every strategy and several latencies.

    python -m benchmarks.chunks [--episodes 5] [--quick] [--json] [--picture PATH]

The reference policy, from its committed weights, picks up cubes in its simulated scene. It observes every 0.4 s; its
chunk comes the injected latency later in simulated time, and targets are asked at 100 Hz. ``switch`` follows the newest
chunk from the moment it comes, which no robot should; it is what the others are there to mend.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.chunk_picture import draw
from benchmarks.chunk_pilot import ChunkPilot
from benchmarks.chunk_rollout import RATE, Rollout, roll_out
from benchmarks.chunk_strategies import STRATEGIES, SWITCH, WINDOW
from vla_evaluation.pilot import picture_size
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.command import DONE, run
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.profiling.machine import this_machine
from vla_runtime.sim.episode import LIMITS, Episode

WEIGHTS = Path(__file__).resolve().parents[1] / "reference" / "weights" / "policy"
TASK = "lift"
QUICK_SECONDS = 4.0  # of simulated time
LATENCIES = (0.0, 0.1, 0.2, 0.3)  # [s]
BORDER = 0.2  # [s], how long after a takeover counts as its border


@dataclass(frozen=True)
class Row:
    """One strategy under one latency, all episodes together; largest over the six joints.

    off: how far a new chunk is from what was asked until then, at the 95th percentile of borders, in [rad].
    position_step, velocity_step: the largest jump at a takeover, in [rad] and [rad/s].
    jerk_rms, jerk_max: of the targets at 100 Hz, by third differences, at borders, in [rad/s³]. jerk_rms_between: as
    far from borders as they go.
    """

    strategy: str
    latency: float
    episodes: int
    succeeded: int
    borders: int
    off: float
    position_step: float
    velocity_step: float
    jerk_rms: float
    jerk_max: float
    jerk_rms_between: float


@dataclass(frozen=True)
class Found:
    """Rows, and a rollout that switches, under the first latency of 200 ms or more."""

    rows: list[Row]
    example: Rollout


def measure(episodes: int, latencies: Sequence[float], seconds: float) -> Found:
    """Every strategy under every latency on the same seeds, for so many seconds each."""
    rows, examples = [], []
    with tempfile.TemporaryDirectory() as directory:
        bundle = _exported(Path(directory))
        engine = OnnxRuntimeEngine(bundle, "fp32", threads=1)
        pilots = {strategy.name: ChunkPilot(bundle, engine, strategy.rtc) for strategy in STRATEGIES}
        episode = Episode(TASK, 0, image_size=picture_size(bundle.manifest))
        cases = [(latency, strategy) for latency in latencies for strategy in STRATEGIES]
        for latency, strategy in track(cases, "episodes", console=Console(stderr=True)):
            rollouts = []
            pilot = pilots[strategy.name]
            for seed in range(episodes):
                episode.restart(seed)
                pilot.begin(episode.instruction, seed, latency)
                rollouts.append(roll_out(episode, pilot.answer, strategy.takeover, latency, seconds))
            rows.append(row(strategy.name, latency, rollouts))
            if strategy.name == SWITCH and latency >= 0.2:
                examples.append(rollouts[0])
        episode.close()
    return Found(rows, examples[0])


def row(strategy: str, latency: float, rollouts: Sequence[Rollout]) -> Row:
    """What the episodes of one strategy come to."""
    borders = [border for rollout in rollouts for border in rollout.borders]
    pairs = [jerks(rollout) for rollout in rollouts]
    near, far = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return Row(
        strategy=strategy,
        latency=latency,
        episodes=len(rollouts),
        succeeded=sum(rollout.succeeded for rollout in rollouts),
        borders=len(borders),
        off=float(np.quantile([border.off for border in borders], 0.95)),
        position_step=max(border.position_step for border in borders),
        velocity_step=max(border.velocity_step for border in borders),
        jerk_rms=_rms(near),
        jerk_max=float(np.abs(near).max()),
        jerk_rms_between=_rms(far),
    )


def jerks(rollout: Rollout) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Third differences of the six joints' targets, at borders and elsewhere, in [rad/s³]. Shapes (n, 6), (m, 6)."""
    third = np.diff(np.array(rollout.targets)[:, :6], n=3, axis=0) * RATE**3
    # The difference at index i is of the targets i … i + 3.
    firsts = rollout.begins + np.arange(len(third)) / RATE
    near = np.zeros(len(third), dtype=bool)
    for border in rollout.borders:
        near |= (firsts > border.at - 3.5 / RATE) & (firsts < border.at + BORDER)
    return third[near], third[~near]


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _exported(directory: Path) -> Bundle:
    """The reference policy with the graph that guided real-time chunking takes; nobody's default bundle."""
    program = "import sys; from vla_export.cli import main; sys.exit(main())"
    output = directory / "bundle"
    private = {f"XDG_{what}_HOME": str(directory / what.lower()) for what in ("STATE", "CACHE")}
    command = [sys.executable, "-c", program, str(WEIGHTS), "--rtc", "guided", "-o", str(output), "--json"]
    subprocess.run(command, env=os.environ | private, stdout=subprocess.DEVNULL, check=True)
    return Bundle.open(output)


def main() -> int:
    parser = argparse.ArgumentParser(description="What the arm is asked where one chunk takes over from another.")
    parser.add_argument("--episodes", type=int, default=5, help="seeds for each strategy and latency (default 5)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:g} s of one episode each, 200 ms only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--picture", type=Path, metavar="PATH", help="draw it, too")
    arguments = parser.parse_args()
    if arguments.quick:
        found = measure(1, (0.2,), QUICK_SECONDS)
    else:
        found = measure(arguments.episodes, LATENCIES, LIMITS[TASK])
    if arguments.picture is not None:
        draw(found.rows, STRATEGIES, found.example, arguments.picture)
    machine = this_machine()
    if arguments.json:
        content = {
            "machine": dataclasses.asdict(machine),
            "window": WINDOW,
            "rows": list(map(dataclasses.asdict, found.rows)),
        }
        print(json.dumps(content, indent=2))
    else:
        Console().print(table(found.rows))
    return DONE


def table(rows: Sequence[Row]) -> Table:
    """As a person reads it."""
    shown = Table(
        "latency",
        "strategy",
        "success",
        "borders",
        "off, rad",
        "step, rad",
        "rad/s",
        "jerk, rms",
        "max",
        "between",
        title=f"Task '{TASK}', takeover window {WINDOW * 1e3:g} ms",
        caption="off: of a new chunk from what was asked until then, 95th percentile. step: the largest of the target "
        "and of its velocity at a takeover. jerk, in rad/s³: of the targets, at borders and between them.",
    )
    for one in rows:
        shown.add_row(
            f"{one.latency * 1e3:.0f} ms",
            one.strategy,
            f"{one.succeeded}/{one.episodes}",
            str(one.borders),
            f"{one.off:.4f}",
            f"{one.position_step:.4f}",
            f"{one.velocity_step:.3f}",
            f"{one.jerk_rms:,.0f}",
            f"{one.jerk_max:,.0f}",
            f"{one.jerk_rms_between:,.0f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(run(main))
