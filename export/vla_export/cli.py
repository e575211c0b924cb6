"""``vla-export``: from a training checkpoint to a policy bundle."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from vla_runtime.command import DONE, PART_SKIPPED, Parser, run

if TYPE_CHECKING:
    from vla_export.adapters.merge import MergeReport
    from vla_export.pipeline import Exported
    from vla_export.prune.prune import PruneReport


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    # Torch's threads spin while they wait for each other, which on a busy machine costs more than the work itself.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(lambda: _export(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
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
        "--merge",
        nargs="?",
        const="auto",
        metavar="MODE",
        help="apply the adapter: exact keeps what depends on the input beside the weights, static folds all of it into "
        "them, auto (the default) folds what the error budget allows",
    )
    parser.add_argument(
        "--adapter", type=Path, metavar="PATH", help="its file or directory (default: the adapter in CHECKPOINT)"
    )
    parser.add_argument(
        "--adapter-config", type=Path, metavar="FILE", help="its configuration (default: the file beside it)"
    )
    parser.add_argument(
        "--error-budget",
        type=float,
        metavar="X",
        help="how far merging, and how far pruning, may move each number of the action, as a share of its scale "
        "(default: 0.01 for merging; pruning is measured and not bounded)",
    )
    parser.add_argument("--force", action="store_true", help="write a bundle beyond the error budget too")
    parser.add_argument(
        "--prune",
        action="append",
        default=[],
        metavar="SPEC",
        help="what to remove: cka:0.5 half of the layers by similarity, gate:0.25 by sensitivity, gate-kv:0.5 all but "
        "keys and values of the language layers, cka:paper a published list; divergence:light channels and heads; "
        "auto:0.6 whatever brings the arithmetic to 0.6 at the least error",
    )
    parser.add_argument(
        "--base",
        type=Path,
        metavar="VLM",
        help="directory of the vision-language model that the policy was trained from, for divergence and auto",
    )
    parser.add_argument(
        "--save-pruned",
        type=Path,
        metavar="DIRECTORY",
        help="write the pruned policy as a checkpoint too, to be finetuned where it was trained",
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
    parser.add_argument(
        "--rtc",
        nargs="?",
        const="guided",
        metavar="FORM",
        help="hold the graph of guided real-time chunking too; the other forms need none",
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
        adapter_config=arguments.adapter_config,
        merge=arguments.merge,
        error_budget=arguments.error_budget,
        force=arguments.force,
        prune=tuple(arguments.prune),
        base=arguments.base,
        save_pruned=arguments.save_pruned,
        calibration=arguments.calibration,
        task=arguments.task,
        precision=arguments.precision,
        trt=arguments.trt,
        rtc=arguments.rtc,
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
    if (merge := report.merge) is not None:
        table.add_row("adapter", merge.in_words())
        table.add_row("merging", merge.reason)
        table.add_row("actions against every branch exact", merge.error_in_words())
    if report.prune is not None:
        for line in report.prune.in_words():
            table.add_row(", ".join(report.prune.steps), line)
        if report.latency is not None:
            table.add_row("one chunk", report.latency.in_words())
        table.add_row("actions against the unpruned", report.prune.error_in_words())
    if report.merge is not None or report.prune is not None:
        without = "" if report.merge is None else " without the adapter"
        table.add_row(
            f"actions against the checkpoint's{without}", f"{report.overall.relative_error:.1%} off, relative"
        )
    for parity in report.parity:
        table.add_row(f"parity of {parity.precision}", f"{parity.chunk:.1e} relative (limit {parity.gate:.0e})")
    if exported.engine is not None:
        built = exported.engine.skipped is None
        table.add_row("engine", f"{exported.engine.precision}, {exported.engine.library}" if built else "skipped")
    console.print(table)
    if exported.beyond_budget:
        console.print("[red]Beyond the error budget, and written because --force was given.[/red]")
    if report.prune is not None:
        console.print(
            "[yellow]Pruning changes the policy, and nothing here finetunes: the published success rates were reached "
            "after finetuning. Judge the bundle in closed loop with vla-eval before it moves an arm.[/yellow]"
        )
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
            "merge": None if exported.report.merge is None else _merge_facts(exported.report.merge),
            "prune": None if exported.report.prune is None else _prune_facts(exported.report.prune),
            "latency": None if exported.report.latency is None else exported.report.latency.model_dump(mode="json"),
            "overall": exported.report.overall.model_dump(mode="json"),
            "parity": [parity.model_dump(mode="json", exclude={"effect"}) for parity in exported.report.parity],
            "engine": None if exported.engine is None else exported.engine.model_dump(mode="json"),
        },
        indent=2,
    )


def _prune_facts(prune: PruneReport) -> dict[str, Any]:
    return {
        "steps": prune.steps,
        "parameters": [prune.before.parameters, prune.after.parameters],
        "effect": prune.effect.model_dump(mode="json"),
        "errors": {error.name: error.rms for error in prune.errors},
    }


def _merge_facts(merge: MergeReport) -> dict[str, Any]:
    return {
        "form": merge.form,
        "requested": merge.requested,
        "reason": merge.reason,
        "linears": merge.counts(),
        "error_budget": merge.budget,
        "errors": {error.name: error.rms for error in merge.errors},
    }
