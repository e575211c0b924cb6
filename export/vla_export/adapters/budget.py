"""Which branches may be merged: as many as an error budget on the policy's actions allows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

# Sets of linears whose joint effect is measured: each costs a run of every held-out sample.
TRIALS = 24

Measure = Callable[[Collection[str]], float]


@dataclass(frozen=True)
class Unit:
    """Linears that are first tried as one: a kind of linear throughout a stack.

    losses: by path, what merging it loses of its output, as a share of the output's energy. savings: by path, the
    arithmetic that merging it saves per chunk, in FLOPs.
    """

    name: str
    losses: Mapping[str, float]
    savings: Mapping[str, float]


@dataclass(frozen=True)
class Choice:
    """static: the paths to merge. alone: the error of each unit when it alone was static. trials: sets measured."""

    static: frozenset[str]
    alone: Mapping[str, float]
    trials: int


def choose_static(units: Sequence[Unit], alone: Measure, together: Measure, budget: float) -> Choice:
    """The linears that together stay within ``budget``, those first that cost the least error for what they save.

    ``together`` measures a set of paths: its error, or anything above ``budget`` where it is out of it. A set that it
    has not found within the budget is never chosen. ``alone`` measures each unit once, to order the linears by: the
    squared error of a unit is divided among its linears by their losses, and as errors of different linears add in
    squares, the best order is that of squared error per FLOP saved, like that of a knapsack of many small things.
    Linears that would break the budget by themselves come last.

    The longest beginning of that order within the budget is found by bisection. What follows it is left out, since a
    single linear that was misjudged must not keep all after it from merging, and the search goes on behind it, until
    nothing is left or `TRIALS` sets have been measured. Deterministic where the measures are.
    """
    everything = [path for unit in units for path in unit.losses]
    if together(everything) <= budget:
        return Choice(frozenset(everything), {}, 1)
    errors = {unit.name: alone(list(unit.losses)) for unit in units}
    chosen: list[str] = []
    rest = _order(units, errors, budget)
    good, bad, trials = 0, len(rest), 1
    while rest and trials < TRIALS:
        if bad - good == 1:
            chosen, rest = chosen + rest[:good], rest[good + 1 :]
            good, bad = 0, len(rest) + 1
            continue
        count = (good + bad) // 2
        trials += 1
        if together(chosen + rest[:count]) <= budget:
            good = count
        else:
            bad = count
    return Choice(frozenset(chosen + rest[:good]), errors, trials)


def _order(units: Sequence[Unit], errors: Mapping[str, float], budget: float) -> list[str]:
    keys = {}
    for unit in units:
        whole = sum(unit.losses.values())
        for path, loss in unit.losses.items():
            squared = errors[unit.name] ** 2 * (loss / whole if whole else 1 / len(unit.losses))
            if not squared <= inf:  # an error without bound times no loss
                squared = inf
            keys[path] = (squared > budget**2, squared / unit.savings[path], path)
    return sorted(keys, key=lambda path: keys[path])
