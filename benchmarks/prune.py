"""Pruning a policy of full size: how much faster it becomes on this machine's CPU, and what the pruning takes.

    python -m benchmarks.prune [--family smolvla|pi0] [--quick] [--json]

Weights, observations (two cameras) and the base of width pruning are random: latency and arithmetic follow from shapes,
and nothing is said about what pruning does to actions. Policies before and after run in turns in ONNX Runtime, as
`vla_export.prune.latency.Stopwatch` does it: a ratio is that of chunks which follow each other. Beside it stand the
ratio of the arithmetic, which is what could be hoped for, and the published one. Peak memory is that of a process that
does nothing else, the policy, π0 in half precision, included. Takes 12 GB of memory, 13 GB of disk where temporary
files go and, on two cores, half an hour or less. ``--quick`` takes policies of a few thin layers, and cka:0.33 for the
published lists, which are of policies of full depth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_type_hints

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from benchmarks import peak_memory
from benchmarks.random_policy import ACTION, FLOW_STEPS, random_policy, random_sample
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.models.blocks import StackSize
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig
from vla_export.progress import StageProgress
from vla_export.prune.auto import sharing_copy
from vla_export.prune.base_vlm import LAYOUTS, BaseVlm, open_base
from vla_export.prune.channels import channels
from vla_export.prune.cost import Cost, cost, total
from vla_export.prune.depth import prune_depth
from vla_export.prune.divergence import layers_with
from vla_export.prune.latency import LatencyReport, Stopwatch
from vla_export.prune.spec import CkaDepth, DepthStep, DivergenceWidth, GateDepth, PublishedDepth
from vla_export.prune.structure import Structure
from vla_export.prune.width import CHANNEL_MULTIPLE, prune_width
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Precision
from vla_runtime.command import DONE
from vla_runtime.command import run as run_command
from vla_runtime.profiling.machine import this_machine

FamilyName = Literal["smolvla", "pi0"]
CAMERAS = 2
SAMPLES = 4  # that decide which layers go
THIRD = CkaDepth(0.33)
MODERATE = DivergenceWidth("moderate", {}, absolute=False)
GIGABYTE = 1e9


@dataclass(frozen=True)
class Way:
    """One way to prune. multiple: what a layer's channels are rounded up to."""

    step: DepthStep | DivergenceWidth
    multiple: int = CHANNEL_MULTIPLE

    def __str__(self) -> str:
        return (
            f"{self.step}, multiples of {self.multiple}" if isinstance(self.step, DivergenceWidth) else str(self.step)
        )


PAPER = Way(PublishedDepth())


@dataclass(frozen=True)
class Subject:
    """A policy and how it is pruned. published: its latency before `PAPER` / after, on a GPU (arXiv 2606.20246)."""

    kind: type[FlowModel]
    config: SmolVLAConfig | Pi0Config
    half: bool
    published: float
    ways: Sequence[Way]

    def policy(self) -> FlowModel:
        return random_policy(self.kind, self.config, self.half)

    def samples(self, count: int) -> list[Sample]:
        return [random_sample(self.config, CAMERAS, n) for n in range(count)]


FULL: Mapping[FamilyName, Subject] = {
    "smolvla": Subject(
        kind=SmolVLA,
        config=SmolVLAConfig(),
        half=False,
        published=201 / 137,
        ways=(PAPER, Way(GateDepth(0.33, keep_memory=True)), Way(MODERATE), Way(MODERATE, multiple=1)),
    ),
    "pi0": Subject(kind=Pi0, config=Pi0Config(), half=True, published=211 / 152, ways=(PAPER,)),
}
_THIN = StackSize(depth=2, width=64, mlp=256, heads=4, kv_heads=2, head_dim=16)


def _cut_down(full: Subject, ways: Sequence[Way]) -> Subject:
    config = replace(
        full.config,
        vision=replace(_THIN, depth=1, kv_heads=4),
        language=_THIN,
        expert=_THIN,
        vocabulary=1000,
        image_size=8 * full.config.patch_size,
    )
    return replace(full, config=config, ways=ways)


QUICK: Mapping[FamilyName, Subject] = {
    "smolvla": _cut_down(FULL["smolvla"], (Way(THIRD), Way(MODERATE))),
    "pi0": _cut_down(FULL["pi0"], (Way(THIRD),)),
}


class Pruning(BaseModel):
    """One run of `prune_depth` on a policy in memory. samples: that decide which layers go."""

    family: FamilyName
    step: str
    samples: int
    seconds: float


class Speed(BaseModel):
    """One way to prune. flops_ratio: of a chunk, before / after, and of the parts of it, which are unlike: what is
    bound by arithmetic gains as the chunk does, what is bound by steps as a step does. published: the latency ratio,
    None where there is none. channels: that the layers of the language model keep.
    """

    family: FamilyName
    way: str
    before: Cost
    after: Cost
    flops_ratio: float
    flops_ratio_encode: float
    flops_ratio_step: float
    channels: tuple[int, ...]
    latency: LatencyReport
    published: float | None


class Speeds(BaseModel):
    """All that one process measured."""

    rows: tuple[Speed, ...]


Found = TypeVar("Found", bound=BaseModel)


def prune_once(family: FamilyName, quick: bool, quiet: bool) -> Pruning:
    """Prune by CKA; runs in the process that is measured."""
    subject = (QUICK if quick else FULL)[family]
    with StageProgress(quiet) as progress:
        with progress.stage(f"random {family}"):
            model = subject.policy()
        samples = subject.samples(SAMPLES)
        started = time.perf_counter()
        with progress.stage(str(THIRD)):
            prune_depth(model, Structure.of(model), THIRD, samples, FLOW_STEPS, len(ACTION.dimensions), family)
        seconds = time.perf_counter() - started
    return Pruning(family=family, step=str(THIRD), samples=SAMPLES, seconds=seconds)


def time_once(family: FamilyName, quick: bool, quiet: bool) -> Speeds:
    """Prune in every way and compare each with the policy as it was; runs in the process that is measured."""
    subject = (QUICK if quick else FULL)[family]
    sample = subject.samples(1)[0]
    precision: Precision = "fp16" if subject.half else "fp32"
    rows = []
    with tempfile.TemporaryDirectory() as name, StageProgress(quiet) as progress:
        with progress.stage(f"random {family}"):
            model = subject.policy()
            base = random_base(model, family, Path(name) / "base") if any(map(_needs_base, subject.ways)) else None
        with progress.stage("graphs before pruning", 2) as advance:
            stopwatch = Stopwatch(model, sample, FLOW_STEPS, precision, Path(name), advance)
        before = total(cost(model, sample, FLOW_STEPS).values())
        with stopwatch:
            for way in subject.ways:
                with progress.stage(str(way)):
                    pruned = _prune(sharing_copy(model), way, base, subject, family)
                with progress.stage("before and after in turns", stopwatch.steps) as advance:
                    latency = stopwatch.compare_model(pruned, advance)
                after = total(cost(pruned, sample, FLOW_STEPS).values())
                layers = list(pruned.stacks()["language"])
                rows.append(
                    Speed(
                        family=family,
                        way=str(way),
                        before=before,
                        after=after,
                        flops_ratio=before.flops_chunk / after.flops_chunk,
                        flops_ratio_encode=before.flops_encode / after.flops_encode,
                        flops_ratio_step=before.flops_step / after.flops_step,
                        channels=tuple(channels(layers[n].mlp) for n in layers_with(pruned, "language.mlp")),
                        latency=latency,
                        published=subject.published if way == PAPER else None,
                    )
                )
    return Speeds(rows=tuple(rows))


def _needs_base(way: Way) -> bool:
    return isinstance(way.step, DivergenceWidth)


def random_base(model: FlowModel, family: FamilyName, directory: Path) -> BaseVlm:
    """A base from which every weight has moved by a tenth of itself, so that all layers lose alike."""
    write_base(directory, moved(vlm_tensors(model, family), 0.1), LAYOUTS[family].model_type)
    return open_base(directory, family)


def _prune(model: FlowModel, way: Way, base: BaseVlm | None, subject: Subject, family: FamilyName) -> FlowModel:
    structure = Structure.of(model)
    if isinstance(way.step, DivergenceWidth):
        assert base is not None
        return prune_width(model, way.step, base, structure, multiple=way.multiple)[0]
    numbers = len(ACTION.dimensions)
    return prune_depth(model, structure, way.step, subject.samples(SAMPLES), FLOW_STEPS, numbers, family)[0]


def in_process(
    function: Callable[[FamilyName, bool, bool], Found], *args: object
) -> tuple[Found, peak_memory.PeakMemory]:
    """What a function of this module answers in a fresh process, and the most memory that this held."""
    program = (
        f"from benchmarks.prune import {function.__name__}; print({function.__name__}(*{args!r}).model_dump_json())"
    )
    # as vla-export sets it: torch's threads spin while they wait for each other
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    printed, peak = peak_memory.run([sys.executable, "-c", program], environment)
    answer: type[Found] = get_type_hints(function)["return"]
    return answer.model_validate_json(printed), peak


def main() -> int:
    parser = argparse.ArgumentParser(description="How much faster pruning makes a policy of full size, and its price.")
    parser.add_argument("--family", choices=FULL, help="one of them; without: both")
    parser.add_argument("--quick", action="store_true", help="policies of a few thin layers, to show that all runs")
    parser.add_argument("--json", action="store_true")
    return run_command(lambda: _benchmark(parser.parse_args()))


def _benchmark(arguments: argparse.Namespace) -> int:
    families: Sequence[FamilyName] = [arguments.family] if arguments.family else list(FULL)
    prunings = [in_process(prune_once, family, arguments.quick, arguments.json) for family in families]
    speeds = [in_process(time_once, family, arguments.quick, arguments.json) for family in families]
    (_print_json if arguments.json else _print_tables)(arguments.quick, prunings, speeds)
    return DONE


def _print_json(
    quick: bool,
    prunings: Sequence[tuple[Pruning, peak_memory.PeakMemory]],
    speeds: Sequence[tuple[Speeds, peak_memory.PeakMemory]],
) -> None:
    content = {
        "machine": asdict(this_machine()),
        "quick": quick,
        "pruning": [found.model_dump() | {"peak": asdict(peak)} for found, peak in prunings],
        "speed": [found.model_dump() | {"peak": asdict(peak)} for found, peak in speeds],
    }
    print(json.dumps(content, indent=2))


def _print_tables(
    quick: bool,
    prunings: Sequence[tuple[Pruning, peak_memory.PeakMemory]],
    speeds: Sequence[tuple[Speeds, peak_memory.PeakMemory]],
) -> None:
    machine, console = this_machine(), Console()
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    console.print(f"{machine.cpu}, {machine.cores} cores; GPU: {machine.gpu or 'none'}; {packages}")
    sizes = "policies of a few thin layers" if quick else "full size"
    table = Table("pruning", "samples", "time", "peak memory", title=f"{sizes}, random weights, {CAMERAS} cameras")
    for pruning, peak in prunings:
        table.add_row(
            f"{pruning.family} {pruning.step}",
            str(pruning.samples),
            f"{pruning.seconds:.1f} s",
            f"{peak.resident / GIGABYTE:.2f} GB",
        )
    console.print(table)
    for found, peak in speeds:
        console.print(_speed_table(found, peak))


def _speed_table(found: Speeds, peak: peak_memory.PeakMemory) -> Table:
    first = found.rows[0]
    table = Table(title=f"{first.family} {first.latency.precision}, before / after")
    for column in ("", "parameters", "FLOPs (encode, step)", "latency", "published", "one chunk"):
        table.add_column(column, justify="left" if column == "" else "right", overflow="fold")
    for row in found.rows:
        low, high = row.latency.ratio_quartiles
        before, after = (statistics.median(ms) for ms in (row.latency.before_ms, row.latency.after_ms))
        narrow, wide = min(row.channels), max(row.channels)
        table.add_row(
            f"{row.way}, {narrow if narrow == wide else f'{narrow}–{wide}'} channels",
            f"{row.before.parameters / 1e6:.1f} → {row.after.parameters / 1e6:.1f} M",
            f"{row.flops_ratio:.2f} ({row.flops_ratio_encode:.2f}, {row.flops_ratio_step:.2f})",
            f"{row.latency.ratio:.2f} ({low:.2f}–{high:.2f})",
            f"{row.published:.2f}" if row.published else "–",
            f"{before:.0f} → {after:.0f} ms",
        )
    rounds = min(row.latency.rounds for row in found.rows)
    table.caption = (
        f"median (quartiles) of {rounds} or more chunks of each in turns, {first.latency.engine}; FLOPs: of a chunk "
        "and its parts; published: on a GPU; channels: of a language layer; peak memory of all this: "
        f"{peak.anonymous / GIGABYTE:.2f} GB, mapped files apart"
    )
    return table


if __name__ == "__main__":
    sys.exit(main())
