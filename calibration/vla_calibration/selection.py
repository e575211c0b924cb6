"""Which moments of a recording to calibrate on, and which to judge by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_calibration.recording import Episode, Moment


@dataclass(frozen=True)
class Selection:
    """Two sets of moments without any in common, each in order, and the task of each moment."""

    calibration: Mapping[Moment, str | None]
    held_out: Mapping[Moment, str | None]


def select(episodes: Sequence[Episode], count: int, seed: int) -> Selection:
    """At most ``count`` moments, spread evenly over the episodes and over the time in them; half are held out.

    No episode is in both halves, and each task is in both where it has two episodes. Where there is only one episode,
    every second of its moments is held out. The same arguments select the same moments.
    Raises ``ValueError`` for fewer than two moments to choose from or to choose.
    """
    if count < 2 or sum(len(episode.frames) for episode in episodes) < 2:
        raise ValueError("a selection needs two moments: one to calibrate on, one to judge by")
    generator = np.random.default_rng(seed)
    parts = sorted((e for e in episodes if e.frames), key=lambda e: (e.task or "", e.number))
    numbers = _shuffled_by_task(parts, generator)
    if len(numbers) == 1:
        moments = _spread(parts, count, generator)
        return Selection(dict(moments[::2]), dict(moments[1::2]))
    ours, held_out = set(numbers[::2]), set(numbers[1::2])
    return Selection(
        dict(_spread([part for part in parts if part.number in ours], count - count // 2, generator)),
        dict(_spread([part for part in parts if part.number in held_out], count // 2, generator)),
    )


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
