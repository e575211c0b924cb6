"""What exporting a policy of full size takes: seconds stage by stage, memory, and what the bundle holds.

    python -m benchmarks.export [--all] [--quick] [--json]

Writes random checkpoints of full size (`benchmarks.full_size`) and exports them, each in a process of its own: π0 in
half precision, which is its default, and SmolVLA in float32. ``--all`` loads every family in every layout besides.
``--quick`` exports the tiny checkpoints that the tests have, to show that everything runs. Needs 16 GB of disk where
temporary files go.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

from benchmarks import peak_memory
from benchmarks.full_size import GOLDENS, LAYOUTS, write_full_size
from vla_export.progress import Advance, StageProgress
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.profiling.machine import this_machine

EXPORTED = ("pi0", "smolvla")
NEWEST = "lerobot-0.6"
GIGABYTE = 1e9


@dataclass(frozen=True)
class Loaded:
    """One checkpoint read into memory; peaks in bytes, of `benchmarks.peak_memory`."""

    family: str
    layout: str
    checkpoint_bytes: int
    seconds: float
    resident: int
    anonymous: int


@dataclass(frozen=True)
class Exported:
    """One checkpoint exported; peaks in bytes, of `benchmarks.peak_memory`.

    seconds: by stage. cpu_seconds: of all cores, whatever else they did meanwhile. weights: bytes by part of the
    policy, each stored weight once. left_out: numbers in the checkpoint's tensors that inference never reads, by name.
    parity: relative error of the chunk by precision.
    """

    family: str
    checkpoint_bytes: int
    seconds: Mapping[str, float]
    total_seconds: float
    cpu_seconds: float
    resident: int
    anonymous: int
    bundle_bytes: int
    weights: Mapping[str, int]
    left_out: Mapping[str, int]
    parity: Mapping[str, float]


def measure_export(family: str, quick: bool) -> Exported:
    """Write a checkpoint, export it in a fresh process, and delete both."""
    with tempfile.TemporaryDirectory() as name:
        directory, bundle = Path(name), Path(name) / "bundle"
        checkpoint = _checkpoint(family, NEWEST, directory, quick)
        started = time.perf_counter()
        found, peak = _in_process("export_once", checkpoint, bundle, directory)
        return Exported(
            family=family,
            checkpoint_bytes=_bytes(checkpoint),
            total_seconds=time.perf_counter() - started,
            resident=peak.resident,
            anonymous=peak.anonymous,
            bundle_bytes=_bytes(bundle),
            weights=weights_by_part(Bundle.open(bundle)),
            **found,
        )


def measure_loading(family: str, layout: str, quick: bool) -> Loaded:
    """Write a checkpoint, load it in a fresh process, and delete it."""
    with tempfile.TemporaryDirectory() as name:
        checkpoint = _checkpoint(family, layout, Path(name), quick)
        found, peak = _in_process("load_once", checkpoint, checkpoint, Path(name))
        return Loaded(family, layout, _bytes(checkpoint), found["seconds"], peak.resident, peak.anonymous)


def export_once(checkpoint: Path, bundle: Path) -> dict[str, Any]:
    """Export as `vla-export` does without options; runs in the process that is measured."""
    from vla_export.checkpoints.stored_tensors import StoredTensors
    from vla_export.pipeline import export
    from vla_export.request import parse_request

    progress = _Stopwatch()
    exported = export(parse_request(checkpoint, output=bundle), progress)
    stored = StoredTensors.in_directory(checkpoint)
    return {
        "seconds": progress.seconds,
        "cpu_seconds": time.process_time(),
        "left_out": {name: prod(stored[name].shape) for name in exported.report.ignored_tensors},
        "parity": {parity.precision: parity.chunk for parity in exported.report.parity},
    }


def load_once(checkpoint: Path, _: Path) -> dict[str, Any]:
    """Load as `vla-export` does; runs in the process that is measured."""
    from vla_export.checkpoints.reading import read

    started = time.perf_counter()
    read(checkpoint, half=None)
    return {"seconds": time.perf_counter() - started}


def weights_by_part(bundle: Bundle) -> dict[str, int]:
    """Bytes of the graphs' weights by the part of the policy they belong to, largest first."""
    parts: Counter[str] = Counter()
    seen: set[tuple[str, int]] = set()
    for graphs in bundle.manifest.graphs.values():
        for graph in (graphs.encode, graphs.denoise):
            path = bundle.path(graph)
            for tensor in onnx.load(path, load_external_data=False).graph.initializer:
                where = {entry.key: entry.value for entry in tensor.external_data}
                place = (str(path.with_name(where.get("location", path.name))), int(where.get("offset", id(tensor))))
                if place not in seen:
                    seen.add(place)
                    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
                    part = tensor.name.split(".")[0] if "." in tensor.name else "constants"
                    parts[part] += prod(tensor.dims) * dtype.itemsize
    return dict(parts.most_common())


class _Stopwatch(StageProgress):
    """Seconds of every stage in place of its bar."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, steps: int = 1) -> Iterator[Advance]:
        started = time.perf_counter()
        yield lambda: None
        self.seconds[name] = time.perf_counter() - started


def _checkpoint(family: str, layout: str, directory: Path, quick: bool) -> Path:
    checkpoint = directory / "checkpoint"
    if not quick:
        write_full_size(family, layout, checkpoint)
        return checkpoint
    shutil.copytree(GOLDENS / family, checkpoint)
    LAYOUTS[layout][0](checkpoint)
    return checkpoint


def _in_process(
    function: str, checkpoint: Path, bundle: Path, directory: Path
) -> tuple[dict[str, Any], peak_memory.PeakMemory]:
    program = (
        f"import json, sys; from pathlib import Path; from benchmarks.export import {function}; "
        f"print(json.dumps({function}(Path(sys.argv[1]), Path(sys.argv[2]))))"
    )
    private = {f"XDG_{what}_HOME": str(directory / what.lower()) for what in ("STATE", "CACHE")}
    # as vla-export sets it: torch's threads spin while they wait for each other
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **private}
    printed, peak = peak_memory.run([sys.executable, "-c", program, str(checkpoint), str(bundle)], environment)
    return json.loads(printed), peak


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description="What exporting a policy of full size takes.")
    parser.add_argument("--all", action="store_true", help="load every family in every layout, too")
    parser.add_argument("--quick", action="store_true", help="the tests' tiny checkpoints, to show that all runs")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    exported = [measure_export(family, arguments.quick) for family in EXPORTED]
    pairs = [(family, layout) for layout, (_, families) in LAYOUTS.items() for family in families]
    loaded = [measure_loading(*pair, arguments.quick) for pair in pairs] if arguments.all else []
    machine = this_machine()
    if arguments.json:
        content = {
            "machine": dataclasses.asdict(machine),
            "quick": arguments.quick,
            "exported": [dataclasses.asdict(row) for row in exported],
            "loaded": [dataclasses.asdict(row) for row in loaded],
        }
        print(json.dumps(content, indent=2))
        return
    console = Console()
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    console.print(f"{machine.cpu}, {machine.cores} cores; GPU: {machine.gpu or 'none'}; {packages}")
    for row in exported:
        console.print(_export_table(row))
    if loaded:
        console.print(_loading_table(loaded))


def _export_table(row: Exported) -> Table:
    table = Table(title=f"{row.family}, {row.checkpoint_bytes / GIGABYTE:.2f} GB", show_header=False)
    for stage, seconds in row.seconds.items():
        table.add_row(stage, f"{seconds:.1f} s")
    table.add_row("the whole process", f"{row.total_seconds:.1f} s")
    table.add_row("CPU time of it, over all cores", f"{row.cpu_seconds:.1f} s", end_section=True)
    table.add_row("peak memory, mapped files included", f"{row.resident / GIGABYTE:.2f} GB")
    table.add_row("peak memory without them", f"{row.anonymous / GIGABYTE:.2f} GB", end_section=True)
    for part, size in row.weights.items():
        table.add_row(f"weights of {part}", f"{size / GIGABYTE:.3f} GB")
    table.add_row("bundle", f"{row.bundle_bytes / GIGABYTE:.2f} GB", end_section=True)
    for name, numbers in row.left_out.items():
        table.add_row(f"left out: {name}", f"{numbers / 1e6:.1f} million numbers")
    for precision, error in row.parity.items():
        table.add_row(f"parity of {precision}, actions", f"{error:.1e}")
    return table


def _loading_table(rows: list[Loaded]) -> Table:
    table = Table("family", "layout", "checkpoint", "loading", "peak memory", "without mapped files")
    for row in rows:
        sizes = [f"{size / GIGABYTE:.2f} GB" for size in (row.checkpoint_bytes, row.resident, row.anonymous)]
        table.add_row(row.family, row.layout, sizes[0], f"{row.seconds:.1f} s", *sizes[1:])
    return table


if __name__ == "__main__":
    main()
