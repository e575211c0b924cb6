"""How well the control loop keeps its rate, what a period costs, and how long an observation takes to the bus.

    python -m benchmarks.control [--rounds 5] [--seconds 4] [--quick] [--json]

Periods: `ControlLoop` with the PiPER's driver on a CAN bus over UDP, following chunks, beside a bare loop that sleeps
until its next deadline; each in a process of its own, in turns, with the simulated arm running in another. Both ask for
SCHED_FIFO. With load, matrices are multiplied on every core meanwhile. Ratios are taken round by round.

Cost: of `ArmController.tick`, which is executor and safety, and of the command's frames, in simulated time.

Latency: from the stamp of two JPEGs to the first frame in answer, through the nodes over DDS, with a policy of two
linear graphs. Pictures are compressed before they are stamped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.control_latency import Latency, observation_to_bus
from benchmarks.control_periods import Leg, inference_load, run_leg, simulated_arm
from benchmarks.control_tick import RATE, TickCost, tick_cost
from vla_runtime.command import DONE, run
from vla_runtime.profiling.machine import this_machine

RATES = (50.0, 200.0)
SIZES = ((224, 224), (480, 640))
GOAL_RATIO = 1.5  # p99 of the control loop's period error over the bare loop's
GOAL_SHARE = 0.05  # of a period at 200 Hz
GOAL_LATENCY = 10.0  # [ms], p99, without the engine
_TICKS = 4000


@dataclass(frozen=True)
class Periods:
    """Period errors of one loop at one rate, all rounds together, in [ms].

    ratio: of p99 to that of the bare loop in the same round: least, median and greatest; None for the bare loop itself.
    tracking: the least share of a leg in which the arm followed chunks.
    """

    loop: str
    rate: float
    load: bool
    p50: float
    p99: float
    max: float
    ratio: tuple[float, float, float] | None
    fifo: bool
    tracking: float


def periods(rounds: int, seconds: float) -> list[Periods]:
    """Both loops at every rate, alone and under load, in turns."""
    rows = []
    with simulated_arm() as bus:
        for load in (False, True):
            with inference_load() if load else nullcontext():
                for rate in RATES:
                    legs: dict[str, list[Leg]] = {"bare": [], "loop": []}
                    for _ in range(rounds):
                        for kind, done in legs.items():
                            done.append(run_leg(kind, bus, rate, seconds))
                    rows += [_row(kind, rate, load, legs) for kind in legs]
    return rows


def _row(kind: str, rate: float, load: bool, legs: dict[str, list[Leg]]) -> Periods:
    errors = np.concatenate([leg.errors for leg in legs[kind]]) * 1e3
    ratios = [one.percentile(99) / bare.percentile(99) for one, bare in zip(legs[kind], legs["bare"], strict=True)]
    return Periods(
        "bare" if kind == "bare" else "control",
        rate,
        load,
        float(np.percentile(errors, 50)),
        float(np.percentile(errors, 99)),
        float(errors.max()),
        None if kind == "bare" else (min(ratios), statistics.median(ratios), max(ratios)),
        all(leg.fifo for leg in legs[kind]),
        min(leg.tracking for leg in legs[kind]),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Rate, cost and latency of the control loop.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pair of loops (default 5)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each leg (default 4)")
    parser.add_argument("--quick", action="store_true", help="one round of a second, one size of image")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rounds, seconds = (1, 1.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    load = os.getloadavg()[0]
    rows = periods(rounds, seconds)
    cost = tick_cost(_TICKS // 4 if arguments.quick else _TICKS)
    latencies = [observation_to_bus(*size, seconds * 3) for size in (SIZES[:1] if arguments.quick else SIZES)]
    if arguments.json:
        content = {
            "machine": asdict(this_machine()),
            "load_before": load,
            "periods": [asdict(row) for row in rows],
            "tick_us": _percentiles(cost),
            "latency": [asdict(one) | {"engine": one.engine} for one in latencies],
        }
        print(json.dumps(content, indent=2))
    else:
        machine = this_machine()
        Console().print(f"{machine.cpu}, {machine.cores} cores, {machine.system}, Python {machine.python}")
        for table in (_periods_table(rows, load), _cost_table(cost), _latency_table(latencies)):
            Console().print(table)
    return DONE


def _percentiles(cost: TickCost) -> dict[str, list[float]]:
    """50th, 90th and 99th, in [µs]."""
    parts = {"executor and safety": cost.deciding, "frames": cost.sending, "together": cost.both}
    return {name: (np.percentile(part, [50, 90, 99]) * 1e6).tolist() for name, part in parts.items()}


def _periods_table(rows: list[Periods], load: float) -> Table:
    shown = Table(
        "rate",
        "load",
        "loop",
        "p50 [ms]",
        "p99",
        "max",
        "p99 over bare (spread)",
        "FIFO",
        title=f"Period error; load average before: {load:.1f}",
        caption=f"p99 over bare: median of the rounds, least and greatest; goal: at most {GOAL_RATIO}",
    )
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio[1]:.2f} ({row.ratio[0]:.2f} … {row.ratio[2]:.2f})"
        shown.add_row(
            f"{row.rate:g} Hz",
            "load" if row.load else "alone",
            row.loop if row.tracking == 1 else f"{row.loop} (tracking {row.tracking:.0%})",
            f"{row.p50:.3f}",
            f"{row.p99:.3f}",
            f"{row.max:.3f}",
            ratio,
            "yes" if row.fifo else "no",
        )
    return shown


def _cost_table(cost: TickCost) -> Table:
    shown = Table(
        "part",
        "p50 [µs]",
        "p90",
        "p99",
        "p50 of a period",
        title=f"Cost of a control period at {RATE:g} Hz",
        caption=f"goal: under {GOAL_SHARE:.0%} of a period, {GOAL_SHARE / RATE * 1e6:.0f} µs",
    )
    for name, (p50, p90, p99) in _percentiles(cost).items():
        shown.add_row(name, f"{p50:.0f}", f"{p90:.0f}", f"{p99:.0f}", f"{p50 * 1e-6 * RATE:.1%}")
    return shown


def _latency_table(latencies: list[Latency]) -> Table:
    shown = Table(
        "two JPEGs",
        "p50 [ms]",
        "p99 [ms]",
        "engine in it, p50",
        "decoding",
        "resizing",
        "chunks/s",
        title="From the observation to the bus",
        caption=f"goal: p99 under {GOAL_LATENCY:g} ms without the engine; control at 200 Hz waits up to 5 ms of it",
    )
    for one in latencies:
        shown.add_row(
            f"{one.image[1]}×{one.image[0]}",
            f"{one.p50:.1f}",
            f"{one.p99:.1f}",
            f"{one.engine:.1f}",
            f"{one.stages['decode']:.1f}",
            f"{one.stages['images']:.1f}",
            f"{one.chunk_rate:.0f}",
        )
    return shown


if __name__ == "__main__":
    sys.exit(run(main))
