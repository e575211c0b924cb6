"""Which episodes an evaluation consists of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vla_evaluation.conditions import Condition
from vla_evaluation.request import Request


@dataclass(frozen=True)
class Case:
    """One episode to run: which bundle, under which condition, on which seed, named right or swapped."""

    bundle: str
    condition: Condition
    task: str
    seed: int
    swap: bool

    @property
    def key(self) -> str:
        """Its name in the results, and in file names."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.bundle}-{self.condition.name}-{self.seed}")


def cases(request: Request) -> list[Case]:
    """All of them; those of one seed lie together, so that what is done is comparable at any time."""
    return [
        Case(bundle, condition, request.task, seed, request.swap)
        for seed in range(request.seed, request.seed + request.episodes)
        for condition in request.conditions
        for bundle in request.bundles
    ]
