"""An evaluation as a page: figures, the comparison, and film strips of what failed."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from vla_evaluation.figures import difference, rate, value
from vla_evaluation.laboratory import strip_path
from vla_evaluation.outcome import Outcome
from vla_evaluation.request import Request
from vla_evaluation.summary import Summary
from vla_runtime.report.page import write_page
from vla_runtime.report.section import Picture, Section, Table

_STRIPS = 24


def write_report(directory: Path, request: Request, summary: Summary, outcomes: Sequence[Outcome]) -> Path:
    """Write ``report/`` in the evaluation's directory in the place of an older one; returns its page."""
    target, unfinished = directory / "report", directory / f".report.partial-{secrets.token_hex(4)}"
    unfinished.mkdir()
    lead = (
        f"{request.bundle}: {request.episodes} episodes from seed {request.seed} on, through {request.through}"
        f"{', each with the instruction naming another cube' if request.swap else ''}. "
        "Intervals hold the true rate in 95 of 100 such experiments."
    )
    try:
        sections = list(_sections(directory, request, summary, outcomes))
        write_page(unfinished, f"{request.task.capitalize()} in closed loop", lead, sections)
        if target.exists():
            shutil.rmtree(target)
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target / "index.html"


def _sections(directory: Path, request: Request, summary: Summary, outcomes: Sequence[Outcome]) -> Iterator[Section]:
    yield _success(request, summary)
    if request.against is not None:
        yield _comparison(request, summary)
    yield _motion(summary)
    if any(row.interventions is not None for row in summary.rows):
        yield _safety(summary)
    yield _failures(directory, outcomes)


def _success(request: Request, summary: Summary) -> Section:
    achieved = "obeyed" if request.swap else "success"
    rows = [
        (row.bundle, row.condition, rate(row.success), rate(row.holding), value(row.succeeded_at, "s"))
        for row in summary.rows
    ]
    cut_short = sum(sum(row.cut_short.values()) for row in summary.rows)
    return Section(
        "Obedience" if request.swap else "Success",
        (
            "The cube that the instruction names decides, not the one that the seed would have named."
            if request.swap
            else "Achieved at some moment of the episode; holding: still achieved when its time was up.",
        ),
        (f"{cut_short} episodes could not go on to their end; the film strips below say why.",) if cut_short else (),
        tables=(Table(("policy", "condition", achieved, "holding at the end", "median time to success"), rows),),
    )


def _comparison(request: Request, summary: Summary) -> Section:
    rows = [
        (
            entry.condition,
            difference(entry.success),
            str(entry.success.first_only),
            str(entry.success.second_only),
            f"{entry.success.p_value:.3f}",
        )
        for entry in summary.comparisons
    ]
    return Section(
        "Comparison",
        (
            f"bundle is {request.bundle}, against is {request.against}; both ran the same seeds. The interval of "
            "the difference is Newcombe's for paired proportions (1998, method 10), p is McNemar's exact.",
        ),
        tables=(Table(("condition", "bundle − against", "only bundle", "only against", "p"), rows),),
    )


def _motion(summary: Summary) -> Section:
    rows = [
        (
            row.bundle,
            row.condition,
            value(row.path_length, "m"),
            value(row.jerk, "rad/s³"),
            value(row.chunk_latency, "ms"),
        )
        for row in summary.rows
    ]
    return Section(
        "Motion and latency",
        ("Medians over the episodes: way of the point between the fingertips, jerk of the joints (rms), one chunk.",),
        tables=(Table(("policy", "condition", "path", "jerk", "chunk latency"), rows),),
    )


def _safety(summary: Summary) -> Section:
    rows = [
        (row.bundle, row.condition, kind.replace("_", " "), str(count))
        for row in summary.rows
        for kind, count in (row.interventions or {}).items()
    ]
    sentence = "What the safety layer did, in all episodes together." if rows else "The safety layer had nothing to do."
    return Section(
        "Safety interventions",
        (sentence,),
        tables=(Table(("policy", "condition", "kind", "times"), rows),) if rows else (),
    )


def _failures(directory: Path, outcomes: Sequence[Outcome]) -> Section:
    failed = sorted((outcome for outcome in outcomes if not outcome.success), key=lambda outcome: outcome.seed)
    filmed = [outcome for outcome in failed if strip_path(directory, outcome.key).is_file()]
    shown = filmed[:_STRIPS]
    sentence = (
        "None."
        if not failed
        else f"{len(failed)} of {len(outcomes)} episodes; film strips of {len(shown)}, time to the right."
    )
    return Section("Failures", (sentence,), pictures=tuple(_strip(directory, outcome) for outcome in shown))


def _strip(directory: Path, outcome: Outcome) -> Picture:
    caption = f"{outcome.bundle}, {outcome.condition}, seed {outcome.seed}: “{outcome.instruction}”"
    if outcome.ended_because is not None:
        caption += f"; ended: {outcome.ended_because}"
    return Picture(f"{outcome.key}.png", caption, partial(shutil.copyfile, strip_path(directory, outcome.key)))
