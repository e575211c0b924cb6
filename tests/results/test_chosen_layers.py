"""Which layers go."""

from __future__ import annotations

import copy

import pytest
import torch

from results.chosen_layers import METHODS, chosen_layers, random_layers
from results.places import POLICY
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_export.observations import synthetic


@pytest.fixture(scope="module")
def policy() -> Checkpoint:
    return read(POLICY)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_as_many_layers_as_chance(policy: Checkpoint, method: str) -> None:
    samples = synthetic(policy.interface, 3).calibration
    before = copy.deepcopy(policy.model.state_dict())
    cut = chosen_layers(policy, method, 0.33, samples)
    assert cut.fraction == random_layers(policy.model, 0.33, 0).fraction == 3 / 8
    language, expert = cut.structure.stacks["language"], cut.structure.stacks["expert"]
    if method == "gate-kv":
        assert len(language) == len(expert) == 8
        assert sum(layer.memory for layer in language) == 3
        assert cut.name.startswith("memory-")
    else:
        assert len(language) == len(expert) == 5
        assert not any(layer.memory for layer in language)
        gone = sorted(set(range(8)) - {layer.layer for layer in language})
        assert cut.name == f"layers-{'-'.join(map(str, gone))}"
    after = policy.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_chance_draws_other_layers_every_time_and_never_the_first(policy: Checkpoint) -> None:
    drawn = [random_layers(policy.model, 0.25, draw) for draw in range(21)]  # all there are: 2 of 7
    assert len({cut.name for cut in drawn}) == 21
    for cut in drawn:
        origins = cut.structure.origins()
        assert origins["language"] == origins["expert"]
        assert origins["language"][0] == 0
        assert len(origins["language"]) == 6
    assert [random_layers(policy.model, 0.25, draw).name for draw in range(21)] == [cut.name for cut in drawn]


def test_the_same_layers_have_the_same_name(policy: Checkpoint) -> None:
    samples = synthetic(policy.interface, 3).calibration
    cut = chosen_layers(policy, "cka", 0.17, samples)
    by_chance = {found.name: found for found in (random_layers(policy.model, 0.17, draw) for draw in range(7))}
    assert by_chance[cut.name].structure == cut.structure
