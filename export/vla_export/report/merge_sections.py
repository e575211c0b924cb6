"""The adapter's part of the report: what became of it, and every linear's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from vla_export.adapters.exact_merge import ExactLayer
from vla_export.adapters.merge import MergeReport, Outcome
from vla_export.adapters.static_merge import StaticLayer
from vla_export.report.effect import effect_in_words
from vla_export.report.merge_pictures import draw_mean_ranks, draw_ranks, draw_residuals
from vla_runtime.report.section import Picture, Section, Table

Row = tuple[ExactLayer, StaticLayer | None, Outcome]
_NONE = "–"


def merge_sections(merge: MergeReport) -> Iterator[Section]:
    """What merging did as a whole, then one section with the linears of each stack."""
    yield _whole(merge)
    by_stack: dict[str, list[Row]] = {}
    for row in merge.layers():
        by_stack.setdefault(row[0].stack, []).append(row)
    for stack, rows in by_stack.items():
        yield Section(f"Adapter: linears of {stack}", tables=(_table(rows),))


def _whole(merge: MergeReport) -> Section:
    exact, static = merge.exact, merge.static
    branches = [layer for layer in exact.layers if layer.layer.bank]
    sentences = [
        f"{merge.in_words()}. Asked for: {merge.requested}; {merge.reason}.",
        f"What the adapter does to the base policy's actions. {effect_in_words(exact.effect)}",
        *_about_cut(merge),
    ]
    if static is not None:
        sentences.append(
            f"What merging does to the actions of the policy with every branch exact. "
            f"{effect_in_words(static.effect)} RMS error: {merge.error_in_words()}."
        )
    warnings = () if merge.within_budget else ("Beyond the error budget, and written because --force was given.",)
    tables = [_actions(merge), *([_kinds(merge)] if branches else [])]
    tables.append(Table(("setting of the adapter", "value"), tuple(merge.settings.items())))
    if merge.ignored:
        tables.append(Table(("tensor of the adapter left out", "why"), tuple(merge.ignored.items())))
    return Section("Adapter", tuple(sentences), warnings, tuple(tables), tuple(_pictures(merge)))


def _about_cut(merge: MergeReport) -> Iterator[str]:
    exact = merge.exact
    if exact.cut is None:
        return
    if exact.cut_undone:
        yield (
            "Cutting the banks to the directions that calibration uses moved the actions beyond the error budget and "
            f"was undone. {effect_in_words(exact.cut)}"
        )
        return
    kept, bank = (sum(n) for n in zip(*((e.kept, e.layer.bank) for e in exact.layers if e.layer.bank), strict=True))
    yield (
        f"{kept:,} of {bank:,} directions are left, those that calibration uses, and no more of them are sorted than a "
        f"token needed there. What that does to the actions with every branch exact. {effect_in_words(exact.cut)}"
    )


def _actions(merge: MergeReport) -> Table:
    """Per dimension in its unit: what the adapter changes, and what merging it gets wrong."""
    exact, static = merge.exact, merge.static
    if static is not None:
        wrong = static.effect.dimensions
    elif exact.cut is not None and not exact.cut_undone:
        wrong = exact.cut.dimensions
    else:
        wrong = None
    rows = []
    for n, (changed, error) in enumerate(zip(exact.effect.dimensions, merge.errors, strict=True)):
        rows.append(
            (
                changed.name,
                f"{changed.mean_error:.3g} {changed.unit}",
                _NONE if wrong is None else f"{wrong[n].mean_error:.3g} {wrong[n].unit}",
                _NONE if wrong is None else f"{wrong[n].max_error:.3g} {wrong[n].unit}",
                f"{error.rms:.2%}",
            )
        )
    headings = ("action", "the adapter's change, mean", "error of merging, mean", "largest", "RMS, of its scale")
    return Table(headings, tuple(rows))


def _kinds(merge: MergeReport) -> Table:
    """One row for each kind of linear in each stack."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in merge.layers():
        if row[0].layer.bank:
            groups.setdefault((row[0].stack, row[0].kind), []).append(row)
    rows = []
    for (stack, kind), members in groups.items():
        fits = [fit for _, fit, _ in members if fit is not None]
        merged = sum(outcome == "static" for *_, outcome in members)
        rows.append(
            (
                f"{stack} {kind}",
                f"{merged} of {len(members)}",
                _NONE if not fits else f"{_mean([fit.residual_least_squares for fit in fits]):.2%}",
                _NONE if not fits else f"{_mean([fit.residual_mean_scores for fit in fits]):.2%}",
                _NONE if not fits else f"{_mean([fit.share for fit in fits]):.1e}",
                f"{_mean([layer.mean_rank for layer, *_ in members]):.1f}",
                f"{max(layer.max_rank for layer, *_ in members)} of {max(layer.layer.bank for layer, *_ in members)}",
                *_saved(members),
            )
        )
    headings = (
        "kind of linear",
        "merged",
        "residual, least squares",
        "mean scores",
        "branch in output",
        "mean active rank",
        "largest",
        "GFLOPs per chunk",
        "bytes",
    )
    return Table(headings, tuple(rows))


def _table(rows: Sequence[Row]) -> Table:
    headings = (
        "linear",
        "now",
        "residual, least squares",
        "mean scores",
        "branch in output",
        "mean active rank",
        "largest",
        "directions left",
        "tokens beyond",
        "off its formula",
        "GFLOPs per chunk",
        "bytes",
    )
    return Table(headings, tuple(_cells(row) for row in rows))


def _cells(row: Row) -> tuple[str, ...]:
    layer, fit, outcome = row
    measured = (_NONE,) * 3
    if fit is not None:
        measured = (f"{fit.residual_least_squares:.2%}", f"{fit.residual_mean_scores:.2%}", f"{fit.share:.1e}")
    if not layer.layer.bank:
        return (layer.layer.path, outcome, *measured, *(_NONE,) * 7)
    return (
        layer.layer.path,
        outcome,
        *measured,
        f"{layer.mean_rank:.1f}",
        f"{layer.max_rank} of {layer.layer.bank}",
        str(layer.kept),
        f"{layer.missed:,} of {layer.tokens:,}",
        f"{layer.formula_error:.1e}",
        *_saved([row]),
    )


def _saved(rows: Sequence[Row]) -> tuple[str, str]:
    """GFLOPs per chunk and bytes, and in brackets what branches add to those of the plain linears."""
    flops, plain_flops, size, plain_size = 0.0, 0.0, 0, 0
    for layer, _, outcome in rows:
        cost = layer.cost
        assert cost is not None  # only of a linear without a branch
        flops += cost.tokens * (cost.flops_static if outcome == "static" else cost.flops_exact)
        plain_flops += cost.tokens * cost.flops_static
        size += cost.bytes_static if outcome == "static" else cost.bytes_exact
        plain_size += cost.bytes_static
    return f"{flops / 1e9:.3g} (+{flops / plain_flops - 1:.1%})", f"{size / 1e6:.2f} MB (+{size / plain_size - 1:.1%})"


def _pictures(merge: MergeReport) -> Iterator[Picture]:
    if merge.static is not None:
        yield Picture(
            "residual.png",
            "What merging loses of each branch, on held-out tokens: least squares (dots; filled where merged) and mean "
            "scores (bars). At 1 the merged linear is no better than one without its branch",
            partial(draw_residuals, merge),
        )
    if any(layer.layer.bank for layer in merge.exact.layers):
        yield Picture(
            "active_rank.png",
            "Directions used per token, by kind of linear: mean, smallest and largest mean of a layer, and the most "
            "that one token used",
            partial(draw_mean_ranks, merge),
        )
        yield Picture("rank_histogram.png", "How many directions tokens use, by stack", partial(draw_ranks, merge))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
