"""Which channels and heads go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from results.chosen_structure import Cut
from results.chosen_units import MODULES, diverged_units, random_units
from results.places import POLICY, VLM
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_export.prune.base_vlm import BaseVlm, open_base
from vla_export.prune.divergence import divergence

COUNTS = {"language.mlp": 256, "language.heads": 4}


@pytest.fixture(scope="module")
def policy() -> Checkpoint:
    return read(POLICY)


@pytest.fixture(scope="module")
def base(policy: Checkpoint) -> BaseVlm:
    return open_base(VLM, policy.family)


def kept(cut: Cut) -> list[set[int]]:
    """By layer, the units that are left."""
    found: list[set[int]] = []
    for layer in cut.structure.stacks["language"]:
        units: Sequence[int] | None = layer.channels if cut.module == "language.mlp" else layer.heads
        found.append(set(range(COUNTS[cut.module])) if units is None else set(units))
    return found


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5])
def test_both_ends_of_one_ranking_go(policy: Checkpoint, base: BaseVlm, module: str, ratio: float) -> None:
    scores = divergence(policy.model, base, module, absolute=False).scores
    high, low = (diverged_units(policy.model, base, module, ratio, method) for method in ("high", "low"))
    assert high.removed != "nothing"
    for cut, sign in ((high, 1), (low, -1)):
        left = kept(cut)
        gone = [sign * scores[n][unit] for n, units in enumerate(left) for unit in set(range(len(scores[n]))) - units]
        # A layer never loses all of its units: the one that stayed for that may be ranked beyond those that went.
        staying = [sign * scores[n][unit] for n, units in enumerate(left) if len(units) > 1 for unit in units]
        assert min(gone) >= max(staying)
        assert all(left)
    went = [[set(range(COUNTS[module])) - units for units in kept(cut)] for cut in (high, low)]
    assert not any(a & b for a, b in zip(*went, strict=True))


def test_as_many_channels_go_whoever_chooses(policy: Checkpoint, base: BaseVlm) -> None:
    for ratio in (0.1, 0.25, 0.5):
        cuts = [diverged_units(policy.model, base, "language.mlp", ratio, method) for method in ("high", "low")]
        cuts += [random_units(policy.model, "language.mlp", ratio, draw) for draw in range(3)]
        assert {cut.fraction for cut in cuts} == {round(2048 * ratio) / 2048}
        assert len({cut.name for cut in cuts}) == 5


def test_chance_is_nested_seeded_and_blind(policy: Checkpoint) -> None:
    few, many = (random_units(policy.model, "language.mlp", ratio, 0) for ratio in (0.25, 0.5))
    assert all(more <= less for more, less in zip(kept(many), kept(few), strict=True))
    assert random_units(policy.model, "language.mlp", 0.5, 0) == many
    assert random_units(policy.model, "language.mlp", 0.5, 1).structure != many.structure
    other = read(POLICY)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(2)
    assert random_units(other.model, "language.mlp", 0.5, 0) == many
