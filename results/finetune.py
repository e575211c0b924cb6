"""Training a checkpoint that was cut a little further, in the setting that the whole policy was trained in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reference.demonstration_data import read_frames
from reference.training import Budget, Plan, train
from reference.validation import validate_chunks
from results import demonstrations
from results.flow_policy import flow_learner
from results.places import OUT
from vla_export.checkpoints.reading import read
from vla_export.prune.pruned_checkpoint import write_pruned_checkpoint
from vla_export.prune.structure import Structure

BATCH, SEED, SAVE_EVERY = 48, 0, 120.0
RATE = 1e-3
AVERAGING = 0.98  # over fifty steps: what was cut and not yet trained must not weigh on a short finetune


def finetune(pruned_checkpoint: Path, name: str, steps: int) -> Path:
    """Train all that is left of a policy on nominal demonstrations, by the flow loss; returns the new checkpoint.

    pruned_checkpoint: what ``vla-export --save-pruned`` wrote; a whole checkpoint is trained as well. The result has
    its tensors' names, its small files and its structure.json. It is kept where the same weights were trained for as
    long under the same ``name``, and an interrupted training goes on. Raises `BadInput` for what cannot be read.
    """
    return finetune_on(demonstrations.nominal(), pruned_checkpoint, name, steps)


def finetune_on(data: Sequence[Path], pruned_checkpoint: Path, name: str, steps: int, batch: int = BATCH) -> Path:
    """The same on other directories of demonstrations."""
    checkpoint = read(pruned_checkpoint)
    run = OUT / "finetuning" / f"{name}-{steps}-{checkpoint.sha256[:8]}"
    finished = run / "checkpoint"
    if finished.is_dir():
        return finished
    structure = Structure.of(checkpoint.model)
    frames, held_out = read_frames(data)
    learner = flow_learner(checkpoint).requires_grad_(True).train()
    trained = train(
        learner,
        learner.finetuning,
        frames,
        Plan(run, Budget(steps, None), batch, SEED, SAVE_EVERY, RATE, AVERAGING),
        validate=lambda average: validate_chunks(average, held_out),
        save=lambda average: None,
    )
    write_pruned_checkpoint(checkpoint, trained.model, structure, finished)
    return finished
