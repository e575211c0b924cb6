"""`ExportReport` → report.json, index.html and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vla_export.report.effect import effect_in_words, effect_table
from vla_export.report.merge_sections import merge_sections
from vla_export.report.pictures import draw_effect
from vla_export.report.prune_sections import prune_sections
from vla_export.report.report import ExportReport
from vla_runtime.report.page import write_page
from vla_runtime.report.section import Picture, Section, Table


def write_report(directory: Path, report: ExportReport) -> None:
    """Write ``report.json``, ``index.html`` and ``pictures/`` into a new directory."""
    directory.mkdir()
    (directory / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    write_page(
        directory,
        f"{report.checkpoint}: what the export did",
        f"Family {report.family}. {versions}.",
        list(_sections(report)),
    )


def _sections(report: ExportReport) -> Iterator[Section]:
    yield _summary(report)
    if report.merge is not None:
        yield from merge_sections(report.merge)
    if report.prune is not None and report.latency is not None:
        yield from prune_sections(report.prune, report.latency)
    yield _graphs(report)
    yield Section(
        "Tensors left out",
        ("Tensors of the checkpoint that inference never reads.",),
        tables=(Table(("tensor", "why"), tuple(report.ignored_tensors.items())),),
    )


def _summary(report: ExportReport) -> Section:
    measured = report.measured_on
    warnings = []
    if measured.synthetic:
        warnings.append(
            "Every figure below was measured on synthetic observations, which look like no real scene, and layers were "
            "chosen on them. Capture real ones with vla-calibrate capture and pass --calibration before trusting them."
        )
    return Section(
        "The exported policy against the checkpoint",
        (
            f"{measured.source}: {measured.calibration} to fit to, {measured.choosing} to choose by and "
            f"{measured.held_out} to judge by.",
            f"{'' if report.merge is None else 'Against it without its adapter: '}{effect_in_words(report.overall)}",
        ),
        tuple(warnings),
        (effect_table(report.overall),),
        (Picture("overall.png", "Error of each action dimension", partial(draw_effect, report.overall)),),
    )


def _graphs(report: ExportReport) -> Section:
    files = tuple((graph.name, f"{graph.nodes:,}", f"{graph.bytes / 1e6:.1f} MB") for graph in report.graphs)
    parity = tuple(
        (
            p.precision,
            p.engine,
            f"{p.prefix:.1e}",
            f"{p.step:.1e}",
            f"{p.chunk:.1e}",
            "no graph" if p.guided is None else f"{p.guided:.1e}",
            f"{p.gate:.0e}",
            f"{p.effect.worst_relative_error:.1e}",
        )
        for p in report.parity
    )
    return Section(
        "Graphs and parity",
        ("Errors relative to PyTorch in float32, on golden samples with fixed noise; the last column: all held-out.",),
        tables=(
            Table(("graph", "nodes", "size"), files),
            Table(
                ("precision", "engine", "prefix", "one step", "actions", "steering", "limit", "worst held-out"), parity
            ),
        ),
    )
