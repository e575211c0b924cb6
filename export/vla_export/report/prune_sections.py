"""Pruning's part of the report: what it costs and saves, and how what went was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median

from vla_export.prune.auto import AutoReport, StackLeft
from vla_export.prune.cost import Cost, total
from vla_export.prune.depth import DepthReport, stack_names
from vla_export.prune.latency import LatencyReport
from vla_export.prune.prune import PruneReport
from vla_export.prune.width import WidthReport
from vla_export.report.effect import effect_in_words
from vla_export.report.prune_pictures import (
    Units,
    draw_cka,
    draw_front,
    draw_sensitivities,
    draw_similarities,
    draw_units,
)
from vla_runtime.report.section import Picture, Section, Table

_NOTHING = Cost(parameters=0, bytes=0, flops_encode=0, flops_step=0, flops_chunk=0)
_FINETUNED = (
    "The published success rates of policies that lost layers were reached after finetuning, and this policy was not "
    "finetuned."
)
_NOT_FINETUNED = (
    "The published success rates of policies that lost channels and heads are of other policies, and fall with every "
    "ratio: π0.5's on LIBERO from 96.9 to 93.3, 89.0 and 82.1 % by light, moderate and aggressive, not finetuned."
)
_JUDGE = (
    "Write the pruned checkpoint with --save-pruned, finetune it where the policy was trained and export it again; "
    "judge the policy in closed loop before trusting it."
)


def prune_sections(report: PruneReport, latency: LatencyReport) -> Iterator[Section]:
    """What all of pruning did, then one section for each way that was asked for."""
    yield _whole(report, latency)
    if report.depth is not None:
        yield _depth(report.depth)
    if report.width is not None:
        yield _width(report.width, report.depth)
    if report.auto is not None:
        yield _auto(report.auto)


def _whole(report: PruneReport, latency: LatencyReport) -> Section:
    lost_units = report.width is not None or (report.auto is not None and report.auto.base is not None)
    lost_layers = report.depth is not None or report.auto is not None
    published = [*([_FINETUNED] if lost_layers else []), *([_NOT_FINETUNED] if lost_units else [])]
    return Section(
        "Pruning",
        (
            f"Asked for: {', '.join(report.steps)}.",
            f"What all of it does to the actions, on held-out samples. {effect_in_words(report.effect)}",
            f"One chunk: {latency.in_words()}.",
        ),
        (" ".join([*published, _JUDGE]),),
        (_actions(report), _costs(report), _latency(latency)),
    )


def _actions(report: PruneReport) -> Table:
    rows = [
        (d.name, f"{d.mean_error:.4g} {d.unit}", f"{d.max_error:.4g} {d.unit}", f"{error.rms:.2%}")
        for d, error in zip(report.effect.dimensions, report.errors, strict=True)
    ]
    return Table(("action", "mean error", "largest error", "RMS, of its scale"), tuple(rows))


def _costs(report: PruneReport) -> Table:
    before, after = report.modules_before, report.modules_after
    rows = [_cost(module, before[module], after.get(module, _NOTHING)) for module in before]
    rows.append(_cost("all", total(before.values()), total(after.values())))
    return Table(("module", "parameters", "MB", "GFLOPs per chunk", "FLOPs left"), tuple(rows))


def _cost(module: str, before: Cost, after: Cost) -> tuple[str, ...]:
    share = "" if before.flops_chunk == 0 else f"{after.flops_chunk / before.flops_chunk:.1%}"
    return (
        module,
        _change(f"{before.parameters:,}", f"{after.parameters:,}"),
        _change(_amount(before.bytes / 1e6), _amount(after.bytes / 1e6)),
        _change(_amount(before.flops_chunk / 1e9), _amount(after.flops_chunk / 1e9)),
        share,
    )


def _latency(latency: LatencyReport) -> Table:
    low, high = latency.ratio_quartiles
    before, after = (f"{median(times):,.1f} ms" for times in (latency.before_ms, latency.after_ms))
    return Table(
        ("one chunk in", "precision", "rounds", "before", "now", "times as fast", "quartiles"),
        (
            (
                latency.engine,
                latency.precision,
                str(latency.rounds),
                before,
                after,
                f"{latency.ratio:.2f}",
                f"{low:.2f} to {high:.2f}",
            ),
        ),
    )


def _depth(depth: DepthReport) -> Section:
    pictures: list[Picture] = []
    rows = []
    for n, group in enumerate(depth.groups):
        names = " and ".join(stack_names(group))
        if group.method == "cka":
            pictures.append(Picture(f"cka_{n}.png", f"CKA of the layers of {names}", partial(draw_cka, group)))
            changes = f"What each layer of {names} changes"
            pictures.append(Picture(f"similarity_{n}.png", changes, partial(draw_similarities, group)))
        if group.method == "gate":
            caption = f"How much the {group.target} actions follow each layer of {names}"
            pictures.append(Picture(f"sensitivity_{n}.png", caption, partial(draw_sensitivities, group)))
        threshold = f"{group.threshold:.4f}" if group.method == "cka" else ""
        rows.append((names, *map(_listed, (group.removed, group.reduced, group.kept)), threshold))
    return Section(
        f"Layers ({depth.step})",
        tables=(Table(("stacks", "removed", "keys and values only", "kept", "CKA threshold"), tuple(rows)),),
        pictures=tuple(pictures),
    )


def _width(width: WidthReport, depth: DepthReport | None) -> Section:
    rows = [
        (
            module.module,
            f"{module.ratio:.1%}",
            f"{1 - sum(module.units_after) / sum(module.units_before):.1%}",
            f"the {module.direction}",
            "" if module.threshold is None else f"{module.threshold:.4g}",
            _change(_span(module.units_before), _span(module.units_after)),
        )
        for module in width.modules
    ]
    sentences = [
        f"Channels and heads ranked by how far training has moved them from {width.base}, "
        f"{'absolutely' if width.absolute else 'relatively'}, over all layers of a module at once. A layer's channels "
        f"are rounded up to a multiple of {width.multiple}, so less may go than was asked for.",
        f"The direction of the ranking: {'; '.join(dict.fromkeys(module.basis for module in width.modules))}.",
    ]
    without_branch = [linear for module in width.modules for linear in module.without_branch]
    if without_branch:
        sentences.append(f"What an exact adapter adds to these linears was not compared: {', '.join(without_branch)}.")
    headings = (
        "module",
        "asked for",
        "removed",
        "first to go",
        "divergence of the last",
        "units per layer",
    )
    caption = "Channels and heads that each layer keeps"
    units = [
        Units(
            module.module,
            _layers(module.module, len(module.units_before), depth),
            module.units_before,
            module.units_after,
        )
        for module in width.modules
    ]
    return Section(
        "Channels and heads",
        tuple(sentences),
        tables=(Table(headings, tuple(rows)),),
        pictures=(Picture("units.png", caption, partial(draw_units, units)),),
    )


def _layers(module: str, count: int, depth: DepthReport | None) -> tuple[int, ...]:
    """Which layers of the policy before pruning a module's are."""
    stack = module.rpartition(".")[0]
    for group in () if depth is None else depth.groups:
        if stack in stack_names(group):
            return group.kept
    return tuple(range(count))


def _auto(auto: AutoReport) -> Section:
    found = auto.search
    measure = "FLOPs" if auto.measure == "flops" else "time"
    sentences = (
        f"Of {len(found.tried)} plans tried, the one whose actions err least among those that take at most "
        f"{found.target:.0%} of the unpruned policy's {measure} per chunk: it takes {found.pick.cost:.1%} and errs by "
        f"{found.pick.error:.2%} on the samples that plans were chosen by, which are not the held-out ones.",
        "Channels and heads could not be removed: they are ranked against the model the policy was trained from, and "
        "--base was not given."
        if auto.base is None
        else f"Channels and heads ranked by how far training has moved them from {auto.base}; a tenth is one of those "
        "in the layers left. What training left as it is there cannot be ranked, stays whole and has no column below.",
    )
    knobs = list(found.pick.plan)
    rows = [
        (
            "picked" if point == found.pick else "",
            f"{point.cost:.1%}",
            f"{point.error:.2%}",
            *(str(point.plan[knob]) if point.plan[knob] else "" for knob in knobs),
        )
        for point in found.front
    ]
    pictures = [
        Picture(
            "front.png",
            "Error against cost of every plan tried, on the samples they were chosen by; on the front are those that "
            "no other beats in both. No error at all lies on the lower edge",
            partial(draw_front, auto),
        )
    ]
    units = [part for stack in auto.stacks for part in _narrowed(stack)]
    if units:
        caption = "Channels and heads that each layer keeps; none where only keys and values are left"
        pictures.append(Picture("units.png", caption, partial(draw_units, units)))
    return Section(
        f"Search ({auto.step})",
        sentences,
        tables=(_stacks(auto.stacks), Table(("front", measure, "relative error", *knobs), tuple(rows))),
        pictures=tuple(pictures),
    )


def _stacks(stacks: Sequence[StackLeft]) -> Table:
    rows = [
        (
            stack.stack,
            *map(_listed, (stack.removed, stack.reduced, stack.kept)),
            _change(*(_span(_of_whole(stack, units)) for units in (stack.whole_channels, stack.channels))),
            _change(*(_span(_of_whole(stack, units)) for units in (stack.whole_heads, stack.heads))),
        )
        for stack in stacks
    ]
    headings = ("stack", "removed", "keys and values only", "kept", "channels per layer", "heads per layer")
    return Table(headings, tuple(rows))


def _narrowed(stack: StackLeft) -> Iterator[Units]:
    """The kinds of units of a stack of which any went from a layer that was left more than its keys and values."""
    for kind, before, after in (
        ("mlp", stack.whole_channels, stack.channels),
        ("heads", stack.whole_heads, stack.heads),
    ):
        if _of_whole(stack, before) != _of_whole(stack, after):
            yield Units(f"{stack.stack}.{kind}", stack.kept, before, after)


def _of_whole(stack: StackLeft, units: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for layer, n in zip(stack.kept, units, strict=True) if layer not in stack.reduced)


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def _span(counts: Sequence[int]) -> str:
    """256, or 64-256 where layers differ; layers that have none at all do not count."""
    some = [count for count in counts if count]
    if not some:
        return ""
    return f"{min(some):,}" if min(some) == max(some) else f"{min(some):,}–{max(some):,}"


def _change(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
