"""Stage 2 of the reference policy's training: flow matching on demonstrations, from a base VLM.

``python -m reference.train_policy --data DIR [DIR ...] --vlm DIR --out DIR (--minutes M | --steps N)``. Leaves the
checkpoint that ``vla-export`` reads in OUT/checkpoint, log.jsonl, curves.png, and state.pt, from which the same command
goes on.
"""

from __future__ import annotations

import argparse
import copy
import sys
from functools import partial
from pathlib import Path

import torch

from reference.architecture import SIZES, untrained
from reference.checkpoint import Words, replacing, write_policy
from reference.demonstration_data import read_frames
from reference.learner import Learner
from reference.parallel import run_in_processes
from reference.training import Plan, train
from reference.training_arguments import add_training_arguments, device, plan
from reference.validation import FLOW_STEPS, validate_policy
from reference.vlm_checkpoint import load_vlm
from reference.vocabulary import LIMIT, word_tokenizer
from vla_export.models.pi0 import Pi0Config
from vla_runtime.command import DONE, run


def train_policy(data: list[Path], vlm: Path, plan: Plan, sizes: Pi0Config = SIZES) -> Path:
    """Train and write the policy; returns its checkpoint."""
    frames, held_out = read_frames(data)
    learner = Learner(untrained(sizes, torch.Generator().manual_seed(plan.seed)), frames.statistics())
    load_vlm(vlm, learner)
    learner.to(device())
    checkpoint = plan.out / "checkpoint"
    train(
        learner,
        learner.policy,
        frames,
        plan,
        validate=lambda average: validate_policy(average, held_out),
        save=lambda average: _write(checkpoint, average),
    )
    return checkpoint


def _write(directory: Path, learner: Learner) -> None:
    finished = copy.deepcopy(learner).cpu()
    with replacing(directory) as partial:
        write_policy(partial, finished.model, finished.statistics, Words(word_tokenizer(), LIMIT), FLOW_STEPS)


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the reference policy from a base VLM.")
    add_training_arguments(parser)
    parser.add_argument("--vlm", type=Path, required=True, help="the checkpoint that reference.train_vlm wrote")
    arguments = parser.parse_args()

    def work() -> int:
        run_in_processes(arguments.processes, partial(train_policy, arguments.data, arguments.vlm, plan(arguments)))
        print(f"wrote {arguments.out / 'checkpoint'}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
