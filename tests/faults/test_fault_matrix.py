"""Every fault leads to the state it must, for the reason it must, in the time it must, and breaks no limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.case import Fault, Outcome, Refusal, broken, outcome
from tests.faults.cases import CASES
from tests.faults.page import PAGE, page, undigited
from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle.bundle import Bundle

Happen = Callable[[Fault | Refusal], Outcome]


@pytest.fixture(scope="module")
def happen(tmp_path_factory: pytest.TempPathFactory) -> Happen:
    """What a fault leads to; each happens once."""
    bundle = Bundle.open(write_toy_bundle(tmp_path_factory.mktemp("faults") / "bundle"))
    outcomes: dict[Fault | Refusal, Outcome] = {}

    def once(case: Fault | Refusal) -> Outcome:
        if case not in outcomes:
            outcomes[case] = outcome(case, bundle)
        return outcomes[case]

    return once


def marked(case: Fault | Refusal) -> object:
    known = case.breaks if isinstance(case, Fault) else None
    marks = [] if known is None else [pytest.mark.xfail(reason=known, strict=True, raises=AssertionError)]
    return pytest.param(case, id=f"{case.group}: {case.name}", marks=marks)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_it_leads_to_what_it_must(case: Fault | Refusal, happen: Happen) -> None:
    assert broken(case, happen(case)) == []


def test_the_same_fault_leads_to_the_same(happen: Happen, tmp_path: Path) -> None:
    case = next(case for case in CASES if isinstance(case, Fault) and case.name == "bus-off")
    assert outcome(case, Bundle.open(write_toy_bundle(tmp_path / "bundle"))) == happen(case)


def test_there_are_enough_of_them_and_no_two_alike() -> None:
    assert len(CASES) >= 30
    assert len({(case.group, case.name) for case in CASES}) == len(CASES)


def test_the_page_is_what_really_happened(happen: Happen) -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert undigited(written) == undigited(page({case: happen(case) for case in CASES})), "python -m tests.faults.page"
