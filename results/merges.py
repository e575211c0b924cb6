"""The ways in which an adapter is merged, as recipes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from results.mean_scores import mean_scores_checkpoint
from results.observations import calibration
from results.places import POLICY
from results.recipes import ORIGINAL, Recipe
from results.setting import TASKS

BUDGETS = (0.003, 0.01, 0.03, 0.1)
EXACT, WHOLE, PER_TASK, MEAN_SCORES = "exact", "least squares", "least squares, lift alone", "mean scores"
WITHOUT = "without adapter"


@dataclass(frozen=True)
class Merge:
    """One way. budget: that of ``auto``, None for the others."""

    name: str
    recipe: Recipe
    budget: float | None = None

    @property
    def reported(self) -> bool:
        """Whether vla-export did it and its report tells of it."""
        return "--merge" in self.recipe.flags


def merges(method: str, adapter: Path) -> list[Merge]:
    """Every way to merge an adapter of the reference policy that was trained in the shifted setting.

    The first keeps every branch and every direction of it, which the others are measured against; the last leaves the
    adapter out. Recordings are of the shifted setting, of both tasks where the name does not say lift alone. What goes
    beyond vla-export's error budget is written all the same: that is what is to be judged.
    """
    both, lift = calibration(TASKS, True), calibration(("lift",), True)
    whole, alone = ("--calibration", str(both)), ("--calibration", str(lift))

    def merged(slug: str, *flags: str) -> Recipe:
        return Recipe(f"merging-{method}-{slug}", POLICY, ("--merge", *flags, "--adapter", str(adapter)))

    scores = mean_scores_checkpoint(method, POLICY, adapter, both)
    return [
        Merge(EXACT, merged("exact", "exact")),
        Merge("exact, banks cut", merged("exact-cut", "exact", *whole)),
        *(
            Merge(
                f"auto {budget:g}", merged(f"auto-{budget:g}", "auto", "--error-budget", f"{budget:g}", *whole), budget
            )
            for budget in BUDGETS
        ),
        Merge(WHOLE, merged("static", "static", "--force", *whole)),
        Merge(PER_TASK, merged("static-lift", "static", "--force", *alone)),
        Merge(MEAN_SCORES, Recipe(f"merging-{method}-mean-scores", scores)),
        Merge(WITHOUT, ORIGINAL),
    ]
