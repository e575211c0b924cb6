"""`ExportReport` → report.json, index.html and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vla_export.actions import ActionEffect
from vla_export.adapters.merge import MergeReport
from vla_export.prune.depth import DepthReport
from vla_export.report.pictures import draw_active_ranks, draw_cka, draw_effect, draw_similarities
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
        yield _merge(report.merge)
    if report.depth is not None:
        yield _depth(report.depth)
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
    if report.depth is not None:
        warnings.append(
            "Removing layers changes the policy. The published success rates after depth reduction were reached after "
            "finetuning; this bundle was not finetuned."
        )
    return Section(
        "The exported policy against the checkpoint",
        (
            f"{measured.source}: {measured.calibration} to decide by, {measured.held_out} others to judge by.",
            _in_words(report.overall),
        ),
        tuple(warnings),
        (_effect_table(report.overall),),
        (Picture("overall.png", "Error of each action dimension", partial(draw_effect, report.overall)),),
    )


def _merge(merge: MergeReport) -> Section:
    rows = tuple(
        (
            entry.layer.source,
            f"{entry.mean_rank:.1f}",
            f"{entry.max_rank} of {entry.layer.bank}",
            f"{entry.formula_error:.1e}",
            f"{entry.layer.parameters:,}",
        )
        for entry in merge.layers
    )
    return Section(
        "Adapter",
        (
            f"{merge.form} on {len(merge.layers)} linears, {merge.mode}: "
            f"{merge.reason}. It adds {merge.parameters_added:,} parameters.",
            f"What the adapter does to the base policy's actions. {_in_words(merge.effect)}",
        ),
        tables=(Table(("linear", "mean active rank", "largest", "off its formula", "parameters"), rows),),
        pictures=(
            Picture("active_rank.png", "Active rank of each adapted linear", partial(draw_active_ranks, merge.layers)),
        ),
    )


def _depth(depth: DepthReport) -> Section:
    pictures: list[Picture] = []
    rows = []
    for n, group in enumerate(depth.groups):
        names = " and ".join(stack.stack for stack in group.stacks)
        pictures.append(Picture(f"cka_{n}.png", f"CKA of the layers of {names}", partial(draw_cka, group)))
        pictures.append(
            Picture(f"similarity_{n}.png", f"What each layer of {names} changes", partial(draw_similarities, group))
        )
        removed, kept = (", ".join(map(str, layers)) for layers in (group.removed, group.kept))
        rows.append((names, removed, kept, f"{group.threshold:.4f}"))
    return Section(
        "Depth",
        (
            f"cka:{depth.fraction:g}. Parameters: {depth.parameters_before:,} before, {depth.parameters_after:,} now.",
            f"What removing these layers does to the actions. {_in_words(depth.effect)}",
        ),
        tables=(Table(("stacks", "removed", "kept", "threshold"), tuple(rows)), _effect_table(depth.effect)),
        pictures=tuple(pictures),
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
            Table(("precision", "engine", "prefix", "one step", "actions", "limit", "worst held-out"), parity),
        ),
    )


def _effect_table(effect: ActionEffect) -> Table:
    rows = tuple((d.name, f"{d.mean_error:.4g} {d.unit}", f"{d.max_error:.4g} {d.unit}") for d in effect.dimensions)
    return Table(("action", "mean error", "largest error"), rows)


def _in_words(effect: ActionEffect) -> str:
    return (
        f"Relative error {effect.relative_error:.2%}, cosine {effect.cosine:.4f}, worst of {effect.samples} samples "
        f"{effect.worst_relative_error:.2%}."
    )
