"""Which moments of a recording to calibrate on, which to choose by, and which to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_calibration.recording import Episode, Moment

SETS = 3


@dataclass(frozen=True)
class Selection:
    """Three sets of moments without any in common, each in order, and the task of each moment.

    What is fitted to ``calibration`` is compared with its alternatives on ``choosing``, so that only ``held_out`` can
    say without flattery how good the chosen one is.
    """

    calibration: Mapping[Moment, str | None]
    choosing: Mapping[Moment, str | None]
    held_out: Mapping[Moment, str | None]


def select(episodes: Sequence[Episode], count: int, seed: int) -> Selection:
    """At most ``count`` moments, spread evenly over the episodes and over the time in them; a third for each set.

    No episode is in two sets, and each task is in all where it has three episodes. Of two episodes one calibrates, and
    every second moment of the other chooses; of a single one, every third moment is in the same set. The same arguments
    select the same moments.
    Raises ``ValueError`` for fewer than three moments to choose from or to choose.
    """
    if count < SETS or sum(len(episode.frames) for episode in episodes) < SETS:
        raise ValueError("a selection needs three moments: one to calibrate on, one to choose by, one to judge by")
    generator = np.random.default_rng(seed)
    parts = sorted((e for e in episodes if e.frames), key=lambda e: (e.task or "", e.number))
    numbers = _shuffled_by_task(parts, generator)
    if len(numbers) == 1:
        moments = _spread(parts, count, generator)
        return Selection(*(dict(moments[n::SETS]) for n in range(SETS)))
    if len(numbers) == 2:
        return _of_two(parts, numbers, count, generator)
    sets = [[part for part in parts if part.number in numbers[n::SETS]] for n in range(SETS)]
    shares = [count // SETS + (n < count % SETS) for n in range(SETS)]
    return Selection(*(dict(_spread(own, share, generator)) for own, share in zip(sets, shares, strict=True)))


def _of_two(parts: Sequence[Episode], numbers: Sequence[int], count: int, generator: np.random.Generator) -> Selection:
    """The second is divided, or the first where the second has a single moment."""
    first, second = ([part for part in parts if part.number == number] for number in numbers)
    if sum(len(part.frames) for part in second) < 2:
        first, second = second, first
    others = _spread(second, count - -(-count // SETS), generator)
    return Selection(dict(_spread(first, -(-count // SETS), generator)), dict(others[::2]), dict(others[1::2]))


def _shuffled_by_task(parts: Sequence[Episode], generator: np.random.Generator) -> list[int]:
    """The numbers of the episodes, those of one task together, at random otherwise."""
    task: dict[int, str] = {}
    for part in parts:
        task.setdefault(part.number, part.task or "")
    numbers = generator.permutation(sorted(task)).tolist()
    return sorted(numbers, key=lambda number: task[number])


def _spread(parts: Sequence[Episode], count: int, generator: np.random.Generator) -> list[tuple[Moment, str | None]]:
    """``count`` moments with their tasks, or all there are.

    Each part is cut into as many stretches of time as it gives moments. Where in a stretch its moment lies differs from
    part to part, evenly over all parts: of many episodes that give one moment each, some give their beginning, some
    their end.
    """
    if len(parts) > count:
        parts = [parts[(2 * n + 1) * len(parts) // (2 * count)] for n in range(count)]
    places = generator.permutation(len(parts)).tolist()
    quotas = _quotas([len(part.frames) for part in parts], count)
    moments = []
    for part, place, quota in zip(parts, places, quotas, strict=True):
        length = len(part.frames)
        offset = (2 * place + 1) * length // (2 * len(parts))
        frames = (part.frames[(n * length + offset) // quota] for n in range(quota))
        moments += [(Moment(part.number, frame), part.task) for frame in frames]
    return sorted(moments, key=lambda chosen: chosen[0])


def _quotas(lengths: Sequence[int], count: int) -> list[int]:
    """How many moments each part gives: the same number, but for parts that have fewer and for the remainder."""
    quotas = [0] * len(lengths)
    left = min(count, sum(lengths))
    while left:
        for n, length in enumerate(lengths):
            if left and quotas[n] < length:
                quotas[n] += 1
                left -= 1
    return quotas
