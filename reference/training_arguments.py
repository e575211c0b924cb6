"""The command line both stages of training share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from reference.training import Budget, Plan
from vla_runtime.errors import BadInput


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    """Data, place, budget, seed."""
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="directories of demonstrations")
    parser.add_argument("--out", type=Path, required=True, help="where the run goes, or goes on")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--steps", type=int, help="optimiser steps; the same seed then gives the same weights")
    budget.add_argument("--minutes", type=float, help="time for the whole run, earlier sittings included")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--processes", type=int, default=1, help="that share each batch, one core each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-every", type=float, default=120.0, metavar="SECONDS")


def plan(arguments: argparse.Namespace) -> Plan:
    """What the arguments ask for; raises `BadInput` for numbers that ask for nothing."""
    numbers = {"steps": arguments.steps, "minutes": arguments.minutes, "processes": arguments.processes}
    for name, number in numbers.items():
        if number is not None and not number > 0:
            raise BadInput(f"--{name} {number} must be greater than 0")
    if arguments.batch < 1 or arguments.batch % arguments.processes:
        raise BadInput(f"--batch {arguments.batch} must be a multiple of --processes {arguments.processes}")
    return Plan(
        out=arguments.out,
        budget=Budget(arguments.steps, arguments.minutes),
        batch=arguments.batch,
        seed=arguments.seed,
        save_every=arguments.save_every,
    )


def device() -> torch.device:
    """A GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
