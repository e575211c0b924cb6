"""Chosen structures of the reference policy as checkpoints, written as ``vla-export --save-pruned`` writes them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from results.places import OUT, POLICY
from vla_export.checkpoints.reading import read
from vla_export.models.flow_model import FlowModel
from vla_export.prune.pruned_checkpoint import read_structure, write_pruned_checkpoint
from vla_export.prune.structure import Structure, apply_structure


@dataclass(frozen=True)
class Cut:
    """What a method takes out of the reference policy.

    name: the same for the same structure. module: what is counted, ``layers`` or as ``language.mlp``. draw: which of
    several random choices. asked: the fraction that was asked for; fraction: of the module's layers or units that go.
    removed: in words.
    """

    name: str
    module: str
    method: str
    draw: int | None
    asked: float
    fraction: float
    removed: str
    structure: Structure


def whole(model: FlowModel) -> Cut:
    """Nothing taken out."""
    return Cut("whole", "none", "whole", None, 0.0, 0.0, "nothing", Structure.of(model))


@torch.no_grad()
def pruned_checkpoint(cut: Cut, policy: Path = POLICY, out: Path = OUT / "pruned") -> Path:
    """The checkpoint of what is left of ``policy``, in ``out``; kept where these were made before."""
    directory = out / cut.name
    checkpoint = read(policy)
    found = read_structure(directory)
    if found is not None:
        if (found.structure, found.checkpoint_sha256) == (cut.structure, checkpoint.sha256):
            return directory
        shutil.rmtree(directory)
    apply_structure(checkpoint.model, cut.structure, cut.name)
    write_pruned_checkpoint(checkpoint, checkpoint.model, cut.structure, directory)
    return directory
