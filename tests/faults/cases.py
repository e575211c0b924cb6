"""Every fault of the matrix, in the order of the page."""

from __future__ import annotations

from tests.faults import cases_of_arm, cases_of_machine, cases_of_senses, cases_of_thought
from tests.faults.case import Fault, Refusal

CASES: tuple[Fault | Refusal, ...] = (
    *cases_of_senses.CASES,
    *cases_of_thought.CASES,
    *cases_of_arm.CASES,
    *cases_of_machine.CASES,
)
