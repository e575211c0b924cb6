"""Which targets go on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.arms.send_density import MOST, SendDensity
from vla_runtime.errors import BadInput

targets = st.lists(st.integers(0, 3), min_size=1, max_size=60)


def sent(every: int, sequence: list[int]) -> list[bool]:
    density = SendDensity(every)
    return [density.due((target,)) for target in sequence]


@given(targets)
def test_one_sends_them_all(sequence: list[int]) -> None:
    assert all(sent(1, sequence))


@given(st.integers(1, 10), st.integers(1, 100))
def test_of_a_motion_one_in_so_many_is_sent_and_the_first_always(every: int, count: int) -> None:
    due = sent(every, list(range(count)))
    assert [index for index, one in enumerate(due) if one] == list(range(0, count, every))


@given(st.integers(1, 10), targets)
def test_where_the_targets_rest_the_arm_is_sent_at_once(every: int, sequence: list[int]) -> None:
    at_rest = [*sequence, sequence[-1]]
    due = sent(every, at_rest)
    newest_sent = [target for target, one in zip(at_rest, due, strict=True) if one][-1]
    assert newest_sent == sequence[-1]


@given(st.integers(1, 10), st.integers(0, 20))
def test_at_rest_it_is_still_one_in_so_many(every: int, moving: int) -> None:
    due = sent(every, [*range(moving), *[-1] * 100])
    assert sum(due[moving:]) <= 100 // every + 2


def test_after_a_restart_the_first_is_due() -> None:
    density = SendDensity(5)
    assert [density.due((k,)) for k in range(3)] == [True, False, False]
    density.restart()
    assert density.due((9,))


@pytest.mark.parametrize("every", [0, -1, MOST + 1])
def test_anything_else_is_refused(every: int) -> None:
    with pytest.raises(BadInput, match=f"send_every is {every}"):
        SendDensity(every)
