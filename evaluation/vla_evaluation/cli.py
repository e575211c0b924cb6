"""``vla-eval``: a policy in closed loop, over and over, and how sure its success rate is."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from vla_evaluation.case import cases
from vla_evaluation.conditions import SUITES
from vla_evaluation.figures import difference, rate, value
from vla_evaluation.outcome import Outcome
from vla_evaluation.report import write_report
from vla_evaluation.request import THROUGH, Request, check
from vla_evaluation.results import Results
from vla_evaluation.summary import Summary, summarise
from vla_evaluation.workers import available_cores, run_cases
from vla_runtime.bundle.default import default_bundle
from vla_runtime.command import DONE, Parser, run
from vla_runtime.errors import BadInput
from vla_runtime.sim.episode import TASKS


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _evaluate(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="vla-eval",
        description="Run a policy in closed loop in simulation and count how often it does what it is told.",
        epilog="The same command again continues what was interrupted. Exit codes: 0 done, 1 the work failed, 2 bad "
        "usage or bad input.",
    )
    parser.add_argument(
        "bundle", nargs="?", type=Path, metavar="BUNDLE", help="default: $VLA_BUNDLE, else the last one exported here"
    )
    parser.add_argument("--task", required=True, help=", ".join(TASKS))
    parser.add_argument("--episodes", type=_count, default=50, metavar="N", help="how many seeds (default 50)")
    parser.add_argument("--seed", type=_natural, default=0, metavar="S", help="the first of them (default 0)")
    parser.add_argument(
        "--through",
        default="runtime",
        metavar="PATH",
        help=f"{', '.join(THROUGH)}: the policy alone (the default), the nodes over DDS, or safety and CAN in one "
        "process; the last two in real time",
    )
    parser.add_argument("--suite", help=f"perturb: {', '.join(SUITES)}; each at several strengths, and at none")
    parser.add_argument("--swap", action="store_true", help="name another cube than the seed does: is it obeyed?")
    parser.add_argument(
        "--against", type=Path, metavar="BUNDLE", help="another policy to compare with on the same seeds"
    )
    parser.add_argument(
        "--workers", type=_count, metavar="W", help="processes (default: one per core; in real time only one)"
    )
    parser.add_argument("-o", dest="output", type=Path, metavar="DIR", help="default: eval/TASK-… of these arguments")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, show no progress")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2³¹ − 1, got {text!r}")
    return int(text)


def _evaluate(arguments: argparse.Namespace) -> int:
    request = check(
        Request(
            bundle=arguments.bundle or default_bundle(),
            against=arguments.against,
            task=arguments.task,
            episodes=arguments.episodes,
            seed=arguments.seed,
            through=arguments.through,
            suite=arguments.suite,
            swap=arguments.swap,
        )
    )
    workers = _workers(arguments.workers, request.through)
    results = Results.open(arguments.output or request.default_directory(), request)
    _run(request, results, workers, arguments.json)
    outcomes = [results.outcomes[case.key] for case in cases(request)]
    summary = summarise(outcomes, [condition.name for condition in request.conditions], list(request.bundles))
    report = write_report(results.directory, request, summary, outcomes)
    facts = _json(request, summary, report)
    _replace(results.directory / "summary.json", json.dumps(facts, indent=2) + "\n")
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        _show(summary, report)
    return DONE


def _workers(asked: int | None, through: str) -> int:
    if through == "runtime":
        return asked or available_cores()
    if asked is not None and asked > 1:
        raise BadInput(f"--workers {asked}: --through {through} runs in real time, which takes the machine for itself")
    return 1


def _run(request: Request, results: Results, workers: int, quiet: bool) -> None:
    planned = cases(request)
    left = [case for case in planned if case.key not in results.outcomes]
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[succeeded]} succeeded"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    ) as progress:
        succeeded = sum(outcome.success for outcome in results.outcomes.values())
        bar = progress.add_task(
            request.task, total=len(planned), completed=len(planned) - len(left), succeeded=succeeded
        )

        def done(outcome: Outcome) -> None:
            nonlocal succeeded
            results.add(outcome)
            succeeded += outcome.success
            progress.update(bar, advance=1, succeeded=succeeded)

        if left:
            run_cases(request, left, min(workers, len(left)), results.directory, done)


def _json(request: Request, summary: Summary, report: Path) -> dict[str, Any]:
    return {
        "request": request.identity(),
        "bundles": {label: str(path) for label, path in request.bundles.items()},
        **dataclasses.asdict(summary),
        "report": str(report),
    }


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _show(summary: Summary, report: Path) -> None:
    console = Console()
    table = Table("policy", "condition", "success", "holding at the end", "time to success", "chunk latency")
    for row in summary.rows:
        table.add_row(
            row.bundle,
            row.condition,
            rate(row.success),
            rate(row.holding),
            value(row.succeeded_at, "s"),
            value(row.chunk_latency, "ms"),
        )
    console.print(table)
    for row in summary.rows:
        if row.interventions:
            happened = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in row.interventions.items())
            console.print(f"safety interventions, {row.bundle}, {row.condition}: {happened}", highlight=False)
    for row in summary.rows:
        for reason, count in row.cut_short.items():
            console.print(f"[yellow]{count} of {row.bundle}, {row.condition}, cut short: {escape(reason)}[/yellow]")
    for entry in summary.comparisons:
        console.print(
            f"bundle − against, {entry.condition}: {difference(entry.success)}, p = {entry.success.p_value:.3f}",
            highlight=False,
        )
    console.print(f"Report: {report}", highlight=False, soft_wrap=True)
