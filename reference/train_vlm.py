"""Stage 1 of the reference policy's training: the base VLM learns which cube is where.

``python -m reference.train_vlm --data DIR [DIR ...] --out DIR (--minutes M | --steps N)``. Leaves the checkpoint in
OUT/checkpoint, log.jsonl, curves.png, and state.pt, from which the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from reference.architecture import SIZES, untrained
from reference.checkpoint import Words
from reference.demonstration_data import read_frames
from reference.learner import Learner
from reference.parallel import run_in_processes
from reference.training import Plan, train
from reference.training_arguments import add_training_arguments, device, plan
from reference.validation import validate_grounding
from reference.vlm_checkpoint import write_vlm
from reference.vocabulary import LIMIT, word_tokenizer
from vla_export.models.pi0 import Pi0Config
from vla_runtime.command import DONE, run


def train_vlm(data: list[Path], plan: Plan, sizes: Pi0Config = SIZES) -> Path:
    """Train and write the base VLM; returns its checkpoint."""
    frames, held_out = read_frames(data)
    model = untrained(sizes, torch.Generator().manual_seed(plan.seed))
    learner = Learner(model, frames.statistics()).to(device())
    checkpoint = plan.out / "checkpoint"
    train(
        learner,
        learner.grounding,
        frames,
        plan,
        validate=lambda average: validate_grounding(average, held_out),
        save=lambda average: write_vlm(checkpoint, average, Words(word_tokenizer(), LIMIT)),
    )
    return checkpoint


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the reference policy's base VLM.")
    add_training_arguments(parser)
    arguments = parser.parse_args()

    def work() -> int:
        run_in_processes(arguments.processes, partial(train_vlm, arguments.data, plan(arguments)))
        print(f"wrote {arguments.out / 'checkpoint'}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
