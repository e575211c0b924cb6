"""Merging an adapter on every linear of a full-size SmolVLA: what it takes, and what exact branches cost afterwards.

    python -m benchmarks.merge [--quick] [--json]

Weights, a bank of 128 directions on each of the 302 linears, and observations are random, so nothing is said here about
how well branches merge. Peak memory is that of a process that does nothing else, the policy included. The policies
without an adapter, with it merged and with it exact are exported, and ONNX Runtime runs them in turns: a ratio is that
of runs which follow each other. Exact comes with whole banks, the worst case, and as ``--merge exact`` leaves banks
that concentrate as trained ones do, unused directions cut, for two guesses of how (`benchmarks.merge_contestants`).
Takes 12 GB of memory, 12 GB of disk where temporary files go and, on two cores, an hour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import onnxruntime as ort
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.merge_contestants import (
    BANK,
    VARIANTS,
    Contestant,
    Cut,
    Setting,
    Variant,
    export_contestant,
    routed_policy,
)
from benchmarks.random_policy import ACTION, FLOW_STEPS
from vla_export.adapters.static_fit import routed_linears
from vla_export.adapters.static_merge import merge_static
from vla_export.models.smolvla import SmolVLAConfig
from vla_export.progress import StageProgress
from vla_export.sample import sample_actions
from vla_runtime.profiling.machine import this_machine

Mode = Literal["static", "auto"]
Graph = Literal["encode", "denoise"]
GRAPHS: Mapping[Graph, int] = {"encode": 1, "denoise": FLOW_STEPS}  # how often each runs for a chunk

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Extent:
    """How much is measured. rounds: of runs of the policies in turns."""

    setting: Setting
    modes: tuple[Mode, ...]
    variants: tuple[Variant, ...]
    rounds: int


_PUBLISHED = SmolVLAConfig()
_SMALL = dataclasses.replace(
    _PUBLISHED,
    vision=dataclasses.replace(_PUBLISHED.vision, depth=1),
    language=dataclasses.replace(_PUBLISHED.language, depth=1),
    expert=dataclasses.replace(_PUBLISHED.expert, depth=1),
    image_size=256,
    vocabulary=1000,
)
FULL = Extent(
    Setting(_PUBLISHED, cameras=3, calibration=4, choosing=1, held_out=1), ("static", "auto"), tuple(VARIANTS), 7
)
QUICK = Extent(
    Setting(_SMALL, cameras=1, calibration=1, choosing=1, held_out=1),
    ("static",),
    ("no adapter", "static", "exact", "exact, cut, exponential"),
    5,
)


@dataclass(frozen=True)
class Merging:
    """One merge. chunk_seconds: of one chunk of the exact policy in PyTorch, the unit that merging spends time in."""

    mode: Mode
    linears: int
    merged: int
    samples: int
    chunk_seconds: float
    seconds: float
    peak_gib: float


@dataclass(frozen=True)
class Ratio:
    """Of runs that follow each other: median, smallest and largest."""

    median: float
    range: tuple[float, float]

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.range[0]:.2f} to {self.range[1]:.2f})"


@dataclass(frozen=True)
class Cost:
    """One chunk of a policy in ONNX Runtime, and its arithmetic as shares of that without an adapter."""

    variant: Variant
    seconds: float
    to_no_adapter: Ratio
    to_static: Ratio
    linear_flops: float
    flops: float
    cut: Cut | None


def measure(extent: Extent, quiet: bool) -> tuple[list[Merging], list[Cost]]:
    """Each part in a process of its own, whose memory is gone afterwards."""
    mergings = [_apart(_merge, extent.setting, mode, quiet) for mode in extent.modes]
    with tempfile.TemporaryDirectory() as name:
        contestants = _apart(_export, extent, Path(name))
        seconds = _apart(_run, extent, Path(name))
    return mergings, [_cost(variant, contestants, seconds) for variant in extent.variants]


def _apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _merge(setting: Setting, mode: Mode, quiet: bool) -> Merging:
    model, observations = routed_policy(setting), setting.observations()
    linears = len(routed_linears(model))
    start = time.perf_counter()
    exact = [sample_actions(model, sample, FLOW_STEPS) for sample in observations.held_out]
    chunk_seconds = (time.perf_counter() - start) / len(exact)
    with StageProgress(quiet) as progress:
        report = merge_static(model, exact, observations, FLOW_STEPS, ACTION, progress, keep_exact=mode == "auto")
    return Merging(
        mode=mode,
        linears=linears,
        merged=sum(layer.decision == "static" for layer in report.layers),
        samples=setting.calibration + setting.choosing + setting.held_out,
        chunk_seconds=chunk_seconds,
        seconds=time.perf_counter() - start,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def _export(extent: Extent, directory: Path) -> dict[Variant, Contestant]:
    """Each policy into a directory of its name."""
    found = {}
    for variant in extent.variants:
        (directory / variant).mkdir()
        found[variant] = export_contestant(extent.setting, variant, directory / variant)
    return found


def _run(extent: Extent, directory: Path) -> dict[Variant, list[float]]:
    """Seconds of one chunk by policy and round."""
    (sample,) = extent.setting.samples(0, 1)
    inputs: dict[str, Any] = {name: tensor.numpy() for name, tensor in sample.observed.items()}
    seconds = {variant: [0.0] * extent.rounds for variant in extent.variants}
    for graph, times in GRAPHS.items():
        sessions = {variant: _session(directory / variant / f"{graph}.onnx") for variant in extent.variants}
        outputs = {variant: session.run(None, inputs) for variant, session in sessions.items()}  # warms up
        for n in range(extent.rounds):
            for variant, session in sessions.items():
                start = time.perf_counter()
                for _ in range(times):
                    session.run(None, inputs)
                seconds[variant][n] += time.perf_counter() - start
        if graph == "encode":
            names = [output.name for output in sessions["no adapter"].get_outputs()]
            inputs = dict(zip(names, outputs["no adapter"], strict=True)) | {
                "chunk": sample.noise.numpy(),
                "time": torch.tensor([1.0]).numpy(),
                "next_time": torch.tensor([0.9]).numpy(),
            }
    return seconds


def _session(path: Path) -> ort.InferenceSession:
    """With the threads that a bundle runs with: a core is left to the control loop."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) - 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _cost(variant: Variant, contestants: Mapping[Variant, Contestant], seconds: Mapping[Variant, list[float]]) -> Cost:
    ours, plain = contestants[variant], contestants["no adapter"]
    return Cost(
        variant=variant,
        seconds=statistics.median(seconds[variant]),
        to_no_adapter=ratio(seconds[variant], seconds["no adapter"]),
        to_static=ratio(seconds[variant], seconds["static"]),
        linear_flops=ours.linear_flops / plain.linear_flops,
        flops=ours.flops / plain.flops,
        cut=ours.cut,
    )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), (min(ratios), max(ratios)))


def main() -> int:
    parser = argparse.ArgumentParser(description="Merging an adapter on every linear of a full-size SmolVLA.")
    parser.add_argument("--quick", action="store_true", help="a policy of a few layers and small images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    # As vla-export does: torch's threads spin while they wait, which on a busy machine costs more than the work itself.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    mergings, costs = measure(QUICK if arguments.quick else FULL, quiet=arguments.json)
    machine = this_machine()
    if arguments.json:
        rows = {
            name: [dataclasses.asdict(row) for row in rows] for name, rows in (("merge", mergings), ("cost", costs))
        }
        print(json.dumps({"machine": dataclasses.asdict(machine), **rows}, indent=2))
        return 0
    console = Console()
    table = Table("merge", "linears merged", "samples", "time", "in chunks of the exact policy", "peak memory")
    table.title = f"{machine.cpu}, {machine.cores} cores; GPU: {machine.gpu or 'none'}"
    for merging in mergings:
        table.add_row(
            merging.mode,
            f"{merging.merged} of {merging.linears}",
            str(merging.samples),
            f"{merging.seconds:.1f} s",
            f"{merging.seconds / merging.chunk_seconds:.0f}",
            f"{merging.peak_gib:.1f} GiB",
        )
    console.print(table)
    console.print(_cost_table(costs, ", ".join(f"{name} {version}" for name, version in machine.packages.items())))
    console.print(_cut_table(costs))
    return 0


def _cost_table(costs: Sequence[Cost], packages: str) -> Table:
    table = Table("ONNX Runtime", "one chunk", "to no adapter", "to static", "FLOPs of linears", "of all")
    table.caption = packages
    for row in costs:
        shares = (f"{row.linear_flops:.2f}", f"{row.flops:.2f}")
        table.add_row(row.variant, f"{row.seconds:.2f} s", str(row.to_no_adapter), str(row.to_static), *shares)
    return table


def _cut_table(costs: Sequence[Cost]) -> Table:
    table = Table("cut banks", "directions per token", "left of the bank", "banks left whole", "tokens that need more")
    table.add_column("error of the cut")
    for row in costs:
        if (cut := row.cut) is not None:
            used = (f"{cut.mean_rank:.1f}", f"{cut.kept:.0f} of {BANK}", f"{cut.whole} of {cut.linears}")
            table.add_row(row.variant, *used, f"{cut.missed:.2%}", f"{cut.error:.2%}")
    return table


if __name__ == "__main__":
    sys.exit(main())
