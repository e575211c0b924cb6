"""Chosen structures as checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from results.chosen_layers import random_layers
from results.chosen_structure import Cut, pruned_checkpoint, whole
from results.chosen_units import random_units
from results.places import POLICY
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_export.observations import synthetic
from vla_export.prune.pruned_checkpoint import STRUCTURE
from vla_export.prune.structure import apply_structure
from vla_export.sample import sample_actions


@pytest.fixture(scope="module")
def policy() -> Checkpoint:
    return read(POLICY)


@pytest.mark.parametrize("which", ["whole", "layers", "heads"])
def test_what_is_read_back_acts_as_what_was_cut(policy: Checkpoint, which: str, tmp_path: Path) -> None:
    cut = {
        "whole": whole(policy.model),
        "layers": random_layers(policy.model, 0.33, 0),
        "heads": random_units(policy.model, "language.heads", 0.25, 0),
    }[which]
    directory = pruned_checkpoint(cut, out=tmp_path)
    mine = read(POLICY)
    apply_structure(mine.model, cut.structure, "the test")

    sample = synthetic(policy.interface, 3).calibration[0]
    expected = sample_actions(mine.model, sample, policy.interface.flow_steps)
    again = read(directory)
    assert torch.equal(sample_actions(again.model, sample, policy.interface.flow_steps), expected)
    unchanged = sample_actions(policy.model, sample, policy.interface.flow_steps)
    assert torch.equal(unchanged, expected) == (which == "whole")


def test_it_is_written_once_and_again_where_the_choice_is_another(policy: Checkpoint, tmp_path: Path) -> None:
    def cut(draw: int) -> Cut:
        found = random_units(policy.model, "language.mlp", 0.5, draw)
        return Cut(**(vars(found) | {"name": "cut"}))

    weights = pruned_checkpoint(cut(0), out=tmp_path) / "model.safetensors"
    written = weights.stat().st_ino
    assert pruned_checkpoint(cut(0), out=tmp_path) == weights.parent
    assert weights.stat().st_ino == written
    before = (weights.parent / STRUCTURE).read_text()
    pruned_checkpoint(cut(1), out=tmp_path)
    assert (weights.parent / STRUCTURE).read_text() != before
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]
