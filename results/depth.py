"""Which layers can go: by CKA, by sensitivity with and without keys and values, or at random; as cut and finetuned.

    python -m results.depth [--episodes 100] [--workers 2] [--quick]

The claim of "Fewer Layers Than You Think" (arXiv 2606.20246) is that layers whose hidden states are alike can go and a
short finetune recovers what that costs; it reports no policy that was not finetuned, and no other layers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from results.arguments import Arguments, arguments
from results.chosen_layers import METHODS, chosen_layers, random_layers
from results.chosen_structure import whole
from results.observations import calibration
from results.places import POLICY
from results.pruning_picture import Panel
from results.pruning_study import QUICK_STEPS, STEPS, TASKS, Study, Trial, carry_out, show
from vla_export.checkpoints.reading import read
from vla_export.observations import recorded
from vla_runtime.command import DONE, run

FRACTIONS = (0.17, 0.33, 0.5)
DRAWS = 3


def study(fractions: Sequence[float], draws: int, steps: int) -> Study:
    """The methods as cut, then finetuned, a random choice with each; more random choices last."""
    policy = read(POLICY)
    samples = recorded(policy.interface, calibration(TASKS, shifted=False)).calibration
    entire = whole(policy.model)
    chosen = [chosen_layers(policy, method, fraction, samples) for fraction in fractions for method in METHODS]
    first, *others = ([random_layers(policy.model, fraction, n) for fraction in fractions] for n in range(draws))
    main = [entire, *chosen, *first]
    more = [cut for drawn in others for cut in drawn]
    return Study(
        name="depth",
        title=f"Layers removed from the reference policy; finetuned: {steps} steps each",
        tiers=[[Trial(cut, n) for cut in cuts] for cuts in (main, more) for n in (0, steps)],
        rivals=[("cka", "gate"), ("cka", "random"), ("gate", "random"), ("gate-kv", "gate"), ("gate-kv", "random")],
        panels=[Panel("layers", task, task, "layers removed, as a fraction of 8") for task in TASKS],
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _study(arguments("depth", "Which layers can go?", argv)))


def _study(asked: Arguments) -> int:
    planned = study(FRACTIONS[1:2], 1, QUICK_STEPS) if asked.quick else study(FRACTIONS, DRAWS, STEPS)
    show(planned, carry_out(planned, asked))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
