from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_calibration.recording import Episode, Moment
from vla_calibration.selection import select

TASKS = ("pick up the red cube", "push the blue cube", None)


@st.composite
def recordings(draw: st.DrawFn) -> list[Episode]:
    """Up to a dozen episodes; in some the task changes half way."""
    episodes = []
    for number in range(draw(st.integers(1, 12))):
        length, task = draw(st.integers(0, 30)), draw(st.sampled_from(TASKS))
        if draw(st.booleans()):
            episodes.append(Episode(number, task, range(length)))
        else:
            odd = [frame for frame in range(length) if frame % 2]
            even = [frame for frame in range(length) if not frame % 2]
            episodes += [Episode(number, "first half", even), Episode(number, "second half", odd)]
    return episodes


def moments(episodes: list[Episode]) -> dict[Moment, str | None]:
    return {Moment(episode.number, frame): episode.task for episode in episodes for frame in episode.frames}


@given(recordings(), st.integers(3, 40), st.integers(0, 3))
def test_three_sets_of_what_there_is_without_a_common_episode(episodes: list[Episode], count: int, seed: int) -> None:
    available = moments(episodes)
    if len(available) < 3:
        with pytest.raises(ValueError, match="three moments"):
            select(episodes, count, seed)
        return
    chosen = select(episodes, count, seed)
    assert chosen == select(episodes, count, seed)
    sets = (chosen.calibration, chosen.choosing, chosen.held_out)
    sizes = [len(one) for one in sets]
    assert min(sizes) > 0
    assert len({moment for one in sets for moment in one}) == sum(sizes) <= count
    for one in sets:
        assert one.items() <= available.items()
        assert list(one) == sorted(one)
    seen = [{moment.episode for moment in one} for one in sets]
    episodes_there = len({moment.episode for moment in available})
    if episodes_there > 2:
        assert sum(map(len, seen)) == len(set().union(*seen))
    elif episodes_there == 2:
        assert seen[0].isdisjoint(seen[1] | seen[2])
    else:
        assert sum(sizes) == min(count, len(available))
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(3, 40), st.integers(3, 64), st.integers(20, 200), st.integers(0, 3))
def test_every_episode_gives_its_share_and_every_part_of_it(episodes: int, count: int, length: int, seed: int) -> None:
    chosen = select([Episode(n, "the same", range(length)) for n in range(episodes)], count, seed)
    for n, half in enumerate((chosen.calibration, chosen.choosing, chosen.held_out)):
        wanted = (count + 2 - n) // 3
        assert len(half) == min(wanted, len({m.episode for m in half}) * length)
        given_by = Counter(moment.episode for moment in half)
        assert max(given_by.values()) - min(given_by.values()) <= 1
        for number, quota in given_by.items():
            frames = [moment.frame for moment in half if moment.episode == number]
            assert frames[0] <= length / quota
            assert length - frames[-1] <= length / quota + 1
            assert all(abs(b - a - length / quota) < 1 for a, b in pairwise(frames))


def test_many_episodes_are_not_all_seen_at_the_same_stage() -> None:
    chosen = select([Episode(n, "the same", range(100)) for n in range(1000)], 96, 0)
    for half in (chosen.calibration, chosen.choosing, chosen.held_out):
        tenths = Counter(moment.frame // 10 for moment in half)
        assert set(tenths) == set(range(10))
        assert max(tenths.values()) <= 4
        hundreds = Counter(moment.episode // 100 for moment in half)
        assert len(hundreds) >= 8


def test_each_task_is_in_every_set_where_it_has_three_episodes() -> None:
    tasks = ["a", "b", "c"]
    episodes = [Episode(n, tasks[n % 3], range(10)) for n in range(9)]
    for seed in range(5):
        chosen = select(episodes, 12, seed)
        assert all(set(one.values()) == set(tasks) for one in (chosen.calibration, chosen.choosing, chosen.held_out))


def test_the_seed_decides_which_episodes_are_held_out() -> None:
    episodes = [Episode(n, "the same", range(10)) for n in range(20)]
    halves = {frozenset(moment.episode for moment in select(episodes, 40, seed).held_out) for seed in range(5)}
    assert len(halves) == 5
