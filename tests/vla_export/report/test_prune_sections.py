"""What the report says of pruning is what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_policy import DEPTH, toy_policy
from tests.vla_export.report.prune_reports import LATENCY, pruned
from vla_export.prune.cost import total
from vla_export.report.prune_sections import prune_sections
from vla_runtime.report.page import write_page
from vla_runtime.report.section import Section, Table


def sections(*specs: str, with_base: bool = True) -> list[Section]:
    return list(prune_sections(pruned(*specs, with_base=with_base), LATENCY))


def column(table: Table, heading: str) -> list[str]:
    """Its cells, whose first column names the rows."""
    return [row[table.headings.index(heading)] for row in table.rows]


def row(table: Table, name: str) -> tuple[str, ...]:
    return next(row for row in table.rows if row[0] == name)


@pytest.mark.parametrize(
    ("specs", "titles"),
    [
        (("cka:0.5",), ["Pruning", "Layers (cka:0.5)"]),
        (("divergence:0.3",), ["Pruning", "Channels and heads"]),
        (("gate:0.3,divergence:light",), ["Pruning", "Layers (gate:0.3)", "Channels and heads"]),
        (("auto:0.8",), ["Pruning", "Search (auto:flops=0.8,depth=gate)"]),
    ],
)
def test_every_way_to_prune_has_a_section_and_a_page(specs: tuple[str, ...], titles: list[str], tmp_path: Path) -> None:
    found = sections(*specs)
    assert [section.title for section in found] == titles
    write_page(tmp_path, "Title", "Lead.", found)
    files = [picture.file for section in found for picture in section.pictures]
    assert len(files) == len(set(files)) > 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(files)
    for section in found:
        for table in section.tables:
            assert {len(cells) for cells in table.rows} == {len(table.headings)}


def test_costs_add_up_and_what_did_not_change_is_said_once() -> None:
    report = pruned("divergence:0.3")
    _, costs, _ = sections("divergence:0.3")[0].tables
    names = [name for name, *_ in costs.rows]
    assert names == [*report.modules_before, "all"]
    parameters = dict(zip(names, column(costs, "parameters"), strict=True))
    before = sum(parameter.numel() for parameter in toy_policy().parameters())
    after = total(report.modules_after.values())
    assert parameters["all"] == f"{before:,} → {after.parameters:,}"
    assert parameters["expert.mlp"] == f"{report.modules_before['expert.mlp'].parameters:,}"
    flops = total(report.modules_before.values()).flops_chunk
    assert row(costs, "all")[-1] == f"{after.flops_chunk / flops:.1%}"
    assert row(costs, "expert.mlp")[-1] == "100.0%"
    assert row(costs, "embedding")[-1] == ""  # a look-up multiplies nothing


def test_a_module_of_which_nothing_is_left_is_still_listed() -> None:
    report = pruned("gate:0.3")
    gone = report.modules_after.keys() - {"language.mlp"}
    left = report.model_copy(update={"modules_after": {name: report.modules_after[name] for name in gone}})
    _, costs, _ = next(prune_sections(left, LATENCY)).tables
    before = report.modules_before["language.mlp"].parameters
    assert row(costs, "language.mlp")[1] == f"{before:,} → 0"
    assert row(costs, "language.mlp")[-1] == "0.0%"


def test_actions_have_their_unit_and_their_share_of_the_scale() -> None:
    report = pruned("cka:0.5")
    actions, _, _ = sections("cka:0.5")[0].tables
    assert [name for name, *_ in actions.rows] == [*(f"joint{n}" for n in range(1, 7)), "grip"]
    grip, error = report.effect.dimensions[-1], report.errors[-1]
    assert row(actions, "grip")[1:] == (f"{grip.mean_error:.4g} m", f"{grip.max_error:.4g} m", f"{error.rms:.2%}")


def test_latency_is_the_measured_one_with_its_spread() -> None:
    section = sections("cka:0.5")[0]
    _, _, latency = section.tables
    assert latency.rows == (("ONNX Runtime 1.20, CPU", "fp32", "3", "15.0 ms", "10.0 ms", "1.50", "1.42 to 1.60"),)
    assert any("1.50 times as fast" in sentence for sentence in section.sentences)


def test_what_was_published_and_how_is_said_plainly() -> None:
    finetuned, channels = "were reached after finetuning, and this policy was not finetuned", "from 96.9 to 93.3"
    for specs, with_base, said, unsaid in (
        ("cka:0.5", True, [finetuned], [channels]),
        ("divergence:0.3", True, [channels], [finetuned]),
        ("gate:0.3,divergence:light", True, [finetuned, channels], []),
        ("auto:0.8", True, [finetuned, channels], []),
        ("auto:0.8", False, [finetuned], [channels]),
    ):
        (warning,) = sections(specs, with_base=with_base)[0].warnings
        assert all(words in warning for words in (*said, "--save-pruned", "closed loop"))
        assert not any(words in warning for words in unsaid)


def test_layers_are_listed_as_they_were_chosen() -> None:
    report = pruned("gate:vlm=0.5,expert=0.17")
    assert report.depth is not None
    (group,) = report.depth.groups
    _, depth = sections("gate:vlm=0.5,expert=0.17")
    (table,) = depth.tables
    (cells,) = table.rows
    listed = [", ".join(map(str, layers)) for layers in (group.removed, group.reduced, group.kept)]
    assert cells == ("language and expert", *listed, "")
    assert (len(group.removed), len(group.reduced)) == (1, 2)
    assert [picture.file for picture in depth.pictures] == ["sensitivity_0.png"]


def test_widths_are_those_that_are_left() -> None:
    report = pruned("divergence:language.mlp=0.3,vision.heads=0.5")
    assert report.width is not None
    _, width = sections("divergence:language.mlp=0.3,vision.heads=0.5")
    (table,) = width.tables
    assert [name for name, *_ in table.rows] == ["language.mlp", "vision.heads"]
    for cells, module in zip(table.rows, report.width.modules, strict=True):
        removed = 1 - sum(module.units_after) / sum(module.units_before)
        assert cells[1:4] == (f"{module.ratio:.1%}", f"{removed:.1%}", "the highest")
        low, high = min(module.units_after), max(module.units_after)
        after = f"{low}" if low == high else f"{low}–{high}"
        assert cells[5] == f"{module.units_before[0]} → {after}"
    assert any("from paligemma, relatively" in sentence for sentence in width.sentences)
    assert sum("nothing is published for π0" in sentence for sentence in width.sentences) == 1


def test_the_front_holds_the_pick_and_every_knob() -> None:
    report = pruned("auto:0.8")
    assert report.auto is not None
    found = report.auto.search
    _, search = sections("auto:0.8")
    stacks, front = search.tables
    assert front.headings[3:] == tuple(found.pick.plan)
    assert len(front.rows) == len(found.front)
    (pick,) = (cells for cells in front.rows if cells[0] == "picked")
    assert pick[1:3] == (f"{found.pick.cost:.1%}", f"{found.pick.error:.2%}")
    assert pick[3:] == tuple(str(notches or "") for notches in found.pick.plan.values())
    assert f"Of {len(found.tried)} plans tried" in search.sentences[0]
    assert "paligemma" in search.sentences[1]
    language = next(stack for stack in report.auto.stacks if stack.stack == "language")
    assert row(stacks, "language")[1:4] == tuple(
        ", ".join(map(str, layers)) for layers in (language.removed, language.reduced, language.kept)
    )
    assert len(language.removed) + len(language.kept) == DEPTH


def test_a_search_without_a_base_says_that_only_layers_could_go() -> None:
    _, search = sections("auto:0.8", with_base=False)
    assert "--base was not given" in search.sentences[1]
    assert all("tenths" not in heading for heading in search.tables[1].headings)
    assert [picture.file for picture in search.pictures] == ["front.png"]
