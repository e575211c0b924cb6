"""Merging an adapter on every linear of a full-size SmolVLA: what it takes, and what exact branches cost afterwards.

    python -m benchmarks.merge [--quick] [--json]

Weights, a bank of 128 directions on each linear, and observations are random, so nothing is said here about how well
branches merge. Peak memory is that of a process that does nothing else, the policy included. The policies without an
adapter, with it merged and with it exact are exported, and ONNX Runtime runs them in turns: a ratio is that of runs
which follow each other. Nothing is cut from the banks. Takes 8 GiB of memory and, on two cores, half an hour or more.
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
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import onnxruntime as ort
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.least_squares import Affine
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import routed_linears
from vla_export.adapters.static_linear import folded, replace
from vla_export.adapters.static_merge import merge_static
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig
from vla_export.progress import StageProgress
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.profiling.machine import this_machine

BANK = 128
FLOW_STEPS = 10
WORDS = 48
ACTION = Space(
    dimensions=(*(Dimension(name=f"joint{n}", unit="rad") for n in range(1, 7)), Dimension(name="grip", unit="m")),
    normalisation=Normalisation(mode="mean_std", offset=(0.0,) * 7, scale=(1.0,) * 7),
    padded_to=32,
)
Variant = Literal["no adapter", "static", "exact"]
VARIANTS: tuple[Variant, ...] = ("no adapter", "static", "exact")
Graph = Literal["encode", "denoise"]
GRAPHS: Mapping[Graph, int] = {"encode": 1, "denoise": FLOW_STEPS}  # how often each runs for a chunk

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Extent:
    """How much is measured. rounds: of runs of the three policies in turns."""

    config: SmolVLAConfig
    cameras: int
    calibration: int
    held_out: int
    modes: tuple[Literal["static", "auto"], ...]
    rounds: int


_PUBLISHED = SmolVLAConfig()
FULL = Extent(_PUBLISHED, 3, 4, 2, ("static", "auto"), 5)
QUICK = Extent(
    dataclasses.replace(
        _PUBLISHED,
        vision=dataclasses.replace(_PUBLISHED.vision, depth=1),
        language=dataclasses.replace(_PUBLISHED.language, depth=1),
        expert=dataclasses.replace(_PUBLISHED.expert, depth=1),
        image_size=256,
        vocabulary=1000,
    ),
    1,
    2,
    1,
    ("static",),
    5,
)


@dataclass(frozen=True)
class Merging:
    """One merge. chunk_seconds: of one chunk of the exact policy in PyTorch, the unit that merging spends time in."""

    mode: str
    linears: int
    merged: int
    samples: int
    chunk_seconds: float
    seconds: float
    peak_gib: float


@dataclass(frozen=True)
class Cost:
    """One chunk of a policy in ONNX Runtime; the ratio to the one without adapter: median, smallest and largest."""

    variant: str
    seconds: float
    ratio: float
    ratio_range: tuple[float, float]
    linear_flops_ratio: float


def measure(extent: Extent, quiet: bool) -> tuple[list[Merging], list[Cost]]:
    """Each part in a process of its own, whose memory is gone afterwards."""
    mergings = [_apart(_merge, extent, mode, quiet) for mode in extent.modes]
    with tempfile.TemporaryDirectory() as name:
        flops = _apart(_export, extent, Path(name))
        return mergings, _apart(_run, extent, Path(name), flops)


def _apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _merge(extent: Extent, mode: str, quiet: bool) -> Merging:
    model = _routed(_policy(extent.config))
    calibration = [_sample(extent, n) for n in range(extent.calibration)]
    held_out = [_sample(extent, extent.calibration + n) for n in range(extent.held_out)]
    linears = len(routed_linears(model))
    start = time.perf_counter()
    exact = [sample_actions(model, sample, FLOW_STEPS) for sample in held_out]
    chunk_seconds = (time.perf_counter() - start) / len(held_out)
    with StageProgress(quiet) as progress:
        report = merge_static(
            model, exact, calibration, held_out, FLOW_STEPS, ACTION, progress, keep_exact=mode == "auto"
        )
    return Merging(
        mode=mode,
        linears=linears,
        merged=sum(layer.decision == "static" for layer in report.layers),
        samples=extent.calibration + extent.held_out,
        chunk_seconds=chunk_seconds,
        seconds=time.perf_counter() - start,
        peak_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    )


def _export(extent: Extent, directory: Path) -> dict[Variant, float]:
    """Export the three policies, each into a directory of its name; returns their linears' FLOPs per chunk."""
    flops = {}
    for variant in VARIANTS:
        model, sample = _policy(extent.config), _sample(extent, 0)
        if variant != "no adapter":
            _routed(model)
        if variant == "static":
            for path, linear in routed_linears(model).items():
                nothing = Affine(torch.zeros(BANK, linear.in_features), torch.zeros(BANK))
                replace(model, path, folded(path, linear, nothing))
        flops[variant] = _linear_flops(model, sample)
        (directory / variant).mkdir()
        export_graphs(model, sample, directory / variant)
    return flops


def _linear_flops(model: SmolVLA, sample: Sample) -> float:
    total = 0.0

    def count(linear: nn.Linear, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        total += 2.0 * output.numel() * linear.in_features

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Linear)]
    sample_actions(model, sample, FLOW_STEPS)
    for handle in handles:
        handle.remove()
    return total


def _run(extent: Extent, directory: Path, flops: Mapping[Variant, float]) -> list[Cost]:
    sample = _sample(extent, 0)
    inputs: dict[str, Any] = {name: tensor.numpy() for name, tensor in sample.observed.items()}
    seconds = {variant: [0.0] * extent.rounds for variant in VARIANTS}
    for graph, times in GRAPHS.items():
        sessions = {variant: _session(directory / variant / f"{graph}.onnx") for variant in VARIANTS}
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
    found = []
    for variant in VARIANTS:
        ratios = [ours / base for ours, base in zip(seconds[variant], seconds["no adapter"], strict=True)]
        found.append(
            Cost(
                variant=variant,
                seconds=statistics.median(seconds[variant]),
                ratio=statistics.median(ratios),
                ratio_range=(min(ratios), max(ratios)),
                linear_flops_ratio=flops[variant] / flops["no adapter"],
            )
        )
    return found


def _session(path: Path) -> ort.InferenceSession:
    """With the threads that a bundle runs with: a core is left to the control loop."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, len(os.sched_getaffinity(0)) - 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _policy(config: SmolVLAConfig) -> SmolVLA:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        model = SmolVLA(config)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.02, generator=generator)
    return model


def _routed(model: SmolVLA) -> SmolVLA:
    """A branch on every linear, in place; each adds about a tenth of the linear's own output."""
    generator = torch.Generator().manual_seed(1)
    for path, linear in [(path, m) for path, m in model.named_modules() if isinstance(m, nn.Linear)]:
        size = linear.in_features**-0.5
        branch = Branch(
            A=torch.randn(BANK, linear.in_features, generator=generator) * size,
            B=torch.randn(linear.out_features, BANK, generator=generator) * 0.1 * BANK**-0.5,
            router=torch.randn(BANK, linear.in_features, generator=generator) * size,
            gating=EnergyGating(BANK, 0.9, "released"),
        )
        replace(model, path, RoutedLinear(linear, branch))
    return model


def _sample(extent: Extent, number: int) -> Sample:
    config, generator = extent.config, torch.Generator().manual_seed(number)
    coarse = torch.rand(extent.cameras, 3, 8, 8, generator=generator) * 2 - 1
    return Sample(
        observed={
            "images": nn.functional.interpolate(coarse, size=config.image_size, mode="bilinear"),
            "tokens": torch.randint(config.vocabulary, (1, WORDS), generator=generator).int(),
            "token_mask": torch.arange(WORDS)[None] < 12,
            "state": torch.randn(1, config.state_width, generator=generator),
        },
        noise=torch.randn(1, config.horizon, config.action_width, generator=generator),
    )


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
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    table = Table("ONNX Runtime", "one chunk", "to no adapter", "arithmetic of linears", caption=packages)
    for cost in costs:
        low, high = cost.ratio_range
        table.add_row(
            cost.variant,
            f"{cost.seconds:.2f} s",
            f"{cost.ratio:.2f} ({low:.2f} to {high:.2f})",
            f"{cost.linear_flops_ratio:.2f}",
        )
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
