"""Which channels and heads can go: those that training moved farthest from the base VLM, least far, or any.

    python -m results.width [--episodes 100] [--workers 2] [--quick]

The claim of "Revisiting Parameter Redundancy" (arXiv 2606.31382) is that what diverged most from the vision-language
model can go, in the language model of π0.5 all of it, and that the other end is fatal, nothing finetuned.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from results.arguments import Arguments, arguments
from results.chosen_structure import whole
from results.chosen_units import DIRECTIONS, MODULES, diverged_units, random_units
from results.places import POLICY, VLM
from results.pruning_picture import Panel
from results.pruning_study import QUICK_STEPS, STEPS, TASKS, Study, Trial, carry_out, show
from vla_export.checkpoints.reading import read
from vla_export.prune.base_vlm import open_base
from vla_runtime.command import DONE, run

RATIOS = (0.5, 0.25, 0.1)
DRAWS = 3


def study(ratios: Sequence[float], draws: int, steps: int) -> Study:
    """Both ends as cut, a random choice with them; then more random choices, and all of it finetuned."""
    policy = read(POLICY)
    model, base = policy.model, open_base(VLM, policy.family)
    places = [(ratio, module) for ratio in ratios for module in MODULES]
    ends = [diverged_units(model, base, module, ratio, method) for ratio, module in places for method in DIRECTIONS]
    first, *others = ([random_units(model, module, ratio, n) for ratio, module in places] for n in range(draws))
    main = [whole(model), *ends, *first]
    more = [cut for drawn in others for cut in drawn]
    return Study(
        name="width",
        title=f"Channels and heads removed from the reference policy; finetuned: {steps} steps each",
        tiers=[[Trial(cut, n) for cut in cuts] for n in (0, steps) for cuts in (main, more)],
        rivals=[("high", "low"), ("high", "random"), ("low", "random")],
        panels=[
            Panel(module, task, f"{task}: {module}", "removed of all layers' units, as a fraction")
            for module in MODULES
            for task in TASKS
        ],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _study(arguments("width", "Which channels and heads can go?", argv)))


def _study(asked: Arguments) -> int:
    planned = study(RATIOS[1:2], 1, QUICK_STEPS) if asked.quick else study(RATIOS, DRAWS, STEPS)
    show(planned, carry_out(planned, asked))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
