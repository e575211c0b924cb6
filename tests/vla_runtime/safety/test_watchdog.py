from __future__ import annotations

import pytest

from vla_runtime.safety.watchdog import Watchdog

DOG = Watchdog("newest chunk", timeout=0.5, max_future=0.05)


@pytest.mark.parametrize("stamp", [9.5, 9.75, 10.0, 10.04])
def test_what_is_fresh_gives_no_complaint(stamp):
    assert DOG.complaint(stamp, now=10.0) is None


@pytest.mark.parametrize(
    ("stamp", "complaint"),
    [
        (None, "no newest chunk yet"),
        (9.38, "newest chunk is 0.620 s old, limit 0.500 s"),
        (11.0, "newest chunk is stamped 1.000 s in the future, limit 0.050 s"),
        (float("nan"), "newest chunk is nan s old, limit 0.500 s"),
        (float("-inf"), "newest chunk is inf s old, limit 0.500 s"),
    ],
)
def test_a_complaint_names_thing_age_and_limit(stamp, complaint):
    assert DOG.complaint(stamp, now=10.0) == complaint


def test_a_clock_that_reads_nothing_makes_nothing_fresh():
    assert DOG.complaint(10.0, now=float("nan")) is not None
