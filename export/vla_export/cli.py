"""``vla-export``: from a training checkpoint to a policy bundle."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table

from vla_runtime.command import DONE, PART_SKIPPED, run
from vla_runtime.errors import BadInput

if TYPE_CHECKING:
    from vla_export.pipeline import Exported


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    # Torch's threads spin while they wait for each other, which on a busy machine costs more than the work itself.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(lambda: _export(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vla-export",
        description="Read a training checkpoint, merge its adapter, remove redundant layers, export ONNX, prove parity "
        "and build a TensorRT engine: a policy bundle for the robot.",
        epilog="Exit codes: 0 done, 1 the work failed, 2 bad usage or bad input, 3 the bundle is complete but the "
        "engine was skipped.",
    )
    parser.add_argument(
        "checkpoint",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="CHECKPOINT",
        help="its directory (default: this one)",
    )
    parser.add_argument(
        "--adapter", type=Path, metavar="PATH", help="adapter to merge (default: adapters.safetensors in CHECKPOINT)"
    )
    parser.add_argument(
        "--merge", nargs="?", const="auto", metavar="MODE", help="apply the adapter: exact, or auto (the default)"
    )
    parser.add_argument(
        "--prune", action="append", default=[], metavar="SPEC", help="cka:0.5 removes half of the layers; repeatable"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="PATH",
        help="a capture of vla-calibrate, a LeRobot dataset or a rosbag to measure on (default: synthetic ones)",
    )
    parser.add_argument("--task", metavar="TEXT", help="measure on this task alone")
    parser.add_argument(
        "--precision",
        metavar="P[,P]",
        help="graphs the bundle holds: fp32, fp16, int8 (default: fp32, or fp16 for over a billion parameters)",
    )
    parser.add_argument(
        "--trt",
        nargs="?",
        const="fp16",
        metavar="PRECISION",
        help="build a TensorRT engine, and hold its graphs: fp16 (the default) or fp32",
    )
    parser.add_argument("-o", dest="output", type=Path, metavar="BUNDLE", help="default: CHECKPOINT/bundle")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, show no progress")
    return parser


def _export(arguments: argparse.Namespace) -> int:
    from vla_export.pipeline import export  # these load torch, which --help can do without
    from vla_export.progress import StageProgress
    from vla_export.request import parse_request

    request = parse_request(
        arguments.checkpoint,
        output=arguments.output,
        adapter=arguments.adapter,
        merge=arguments.merge,
        prune=tuple(arguments.prune),
        calibration=arguments.calibration,
        task=arguments.task,
        precision=arguments.precision,
        trt=arguments.trt,
    )
    with StageProgress(quiet=arguments.json) as progress:
        exported = export(request, progress)
    if arguments.json:
        print(_json(exported))
    else:
        _show(exported)
    return PART_SKIPPED if exported.engine is not None and exported.engine.skipped is not None else DONE


def _show(exported: Exported) -> None:
    console = Console()
    report = exported.report
    table = Table(title=f"{report.checkpoint} → {exported.bundle.root}", title_justify="left", show_header=False)
    if report.merge is not None:
        table.add_row("adapter", f"LoRA-SP on {len(report.merge.layers)} linears, {report.merge.mode}")
    if report.depth is not None:
        for group in report.depth.groups:
            stacks = " and ".join(stack.stack for stack in group.stacks)
            table.add_row("layers removed", f"{', '.join(map(str, group.removed))} of {stacks}")
    if report.merge is not None or report.depth is not None:
        table.add_row("actions against the checkpoint's", f"{report.overall.relative_error:.1%} off, relative")
    for parity in report.parity:
        table.add_row(f"parity of {parity.precision}", f"{parity.chunk:.1e} relative (limit {parity.gate:.0e})")
    if exported.engine is not None:
        built = exported.engine.skipped is None
        table.add_row("engine", f"{exported.engine.precision}, {exported.engine.library}" if built else "skipped")
    console.print(table)
    if report.measured_on.synthetic:
        console.print(
            "[yellow]Measured on synthetic observations, which no real scene looks like: capture real ones with "
            "vla-calibrate capture and pass --calibration before trusting these figures.[/yellow]"
        )
    if exported.engine is not None and exported.engine.skipped is not None:
        console.print(
            f"[yellow]The engine was skipped: {exported.engine.skipped}. The bundle is complete; build the engine on "
            f"the robot with: vla-bundle build {exported.bundle.root.name}[/yellow]"
        )
    console.print(f"Report: {exported.bundle.root / 'report' / 'index.html'}")


def _json(exported: Exported) -> str:
    return json.dumps(
        {
            "bundle": str(exported.bundle.root.resolve()),
            "overall": exported.report.overall.model_dump(mode="json"),
            "parity": [parity.model_dump(mode="json", exclude={"effect"}) for parity in exported.report.parity],
            "engine": None if exported.engine is None else exported.engine.model_dump(mode="json"),
        },
        indent=2,
    )
