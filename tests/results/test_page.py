"""The tables of the page."""

from __future__ import annotations

import json
import re

import pytest

from results.markdown import difference, ranged, table
from results.page import PAGE, filled
from results.page_tables import TABLES
from results.places import FIGURES
from results.predictor import associations, proposals, within
from results.together import losses, with_front
from tests.results.pruned_rows import pruned_row
from tests.results.test_chunks import outcomes
from tests.results.test_predictor import pooled
from tests.results.test_together import ROWS
from vla_evaluation.intervals import paired_difference
from vla_runtime.errors import BadInput


def as_figures(**content: object) -> dict[str, object]:
    """As they are read back from a file."""
    plain = json.dumps(content, default=lambda model: model.model_dump(mode="json"))
    return dict(json.loads(plain))


def pruning() -> dict[str, object]:
    from results.pruned_row import comparisons

    rows = [pruned_row("cka", tuple(range(15))), pruned_row("gate", ()), pruned_row("cka", (1,), finetuned=300)]
    return as_figures(rows=rows, comparisons=list(comparisons(rows, [("cka", "gate")])))


def chunks() -> dict[str, object]:
    from results.chunks import comparisons, rows

    found = rows(outcomes())
    return as_figures(rows=found, comparisons=comparisons(found))


def predictor() -> dict[str, object]:
    found = pooled("depth", ("a", 0.004, 0), ("b", 0.02, 1), ("c", 0.04, 30))
    return as_figures(associations=associations(found), within=within(found), proposals=proposals(found))


def page(*names: str) -> str:
    return "".join(f"Words.\n\n<!-- table: {name} -->\nold\n<!-- end -->\n\n" for name in names)


@pytest.mark.parametrize(
    ("name", "figures", "line"),
    [
        (
            "depth",
            pruning(),
            "| layers 4, 5, 7 | cka | 0.33 | – | 5 of 20 (11–47 %) | 0.01 | 0.2 | 0.70 (0.60 to 0.80) |",
        ),
        ("depth differences", pruning(), "| lift | 0.33 of layers | cka, as cut | gate, as cut | −75 ("),
        ("together", as_figures(rows=with_front(ROWS[:4]), losses=losses(ROWS[:4])), "| 1 | merged | **18 of 20 ("),
        ("together picks", as_figures(rows=ROWS), "| `` |  |"),
        ("chunks", chunks(), "| `blend` | 2 of 4 (15–85 %) · 5 ("),
        ("chunks differences", chunks(), "| `replace` | +50 ("),
        ("predictor", predictor(), "| all | worst number, share of its scale | 3, 3 | 1 | 1.00 (1.00 to 1.00) | 1.00"),
        ("budgets", predictor(), "| as exported | 0.05 | 3 | 2 of 3 ("),
        ("proposals", predictor(), "| pruned | mean joint error | 0.03 | 2 |"),
    ],
)
def test_a_table_says_what_the_figures_say(name: str, figures: dict[str, object], line: str) -> None:
    text = filled(page(name), {TABLES[name].study: figures})
    assert line in text
    assert "old" not in text
    assert filled(text, {TABLES[name].study: figures}) == text


def test_tables_without_figures_and_all_words_stay() -> None:
    text = page("depth", "merging")
    after = filled(text, {"depth": pruning()})
    assert after.count("old") == 1
    assert after.count("Words.") == 2
    assert "<!-- table: merging -->\nold\n<!-- end -->" in after


def test_a_table_that_nobody_writes_is_refused() -> None:
    with pytest.raises(BadInput, match="'weather'"):
        filled(page("weather"), {})


def test_the_page_has_every_table_once() -> None:
    names = re.findall(r"<!-- table: ([a-z ]+) -->\n", PAGE.read_text(encoding="utf-8"))
    assert sorted(names) == sorted(TABLES)


def test_the_page_says_what_the_committed_figures_say() -> None:
    studies = {study: FIGURES / f"{study}.json" for study in {one.study for one in TABLES.values()}}
    made = {study: json.loads(path.read_text(encoding="utf-8")) for study, path in studies.items() if path.is_file()}
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text, made) == text, "run python -m results.page"


def test_a_row_of_another_length_is_refused() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    with pytest.raises(ValueError, match="as many cells"):
        table(["a", "b"], [["1"]])


def test_numbers_have_their_intervals() -> None:
    assert ranged(-0.5, (-0.75, 0.25)) == "−0.50 (−0.75 to 0.25)"
    assert ranged(None, None) == "–"
    assert difference(paired_difference(0, 0, 20, 0)).endswith("p < 0.0001")
