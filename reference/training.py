"""The loop of every training: seeded, resumable, logged; what a step draws depends on the seed and its number alone."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from reference.curves import draw_curves
from reference.demonstration_data import Batch, Frames, draw
from reference.parallel import agreed, average_gradients, processes, rank
from vla_runtime.errors import BadInput

LEARNING_RATE, BETAS, WARM_UP = 1e-3, (0.9, 0.95), 100
CLIP = 1.0
AVERAGING = 0.995  # what the averaged weights keep of themselves at every step
LOG_EVERY = 20  # steps
STATE, LOG, CURVES = "state.pt", "log.jsonl", "curves.png"

Losses = Callable[[Batch, torch.Generator], dict[str, Tensor]]
L = TypeVar("L", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """How long to train: so many steps or, where ``minutes`` is given, as many as these allow."""

    steps: int | None
    minutes: float | None

    def spent(self, step: int, seconds: float) -> float:
        """The share that is spent, 1 at the end."""
        if self.minutes is not None:
            return min(1.0, seconds / (60.0 * self.minutes))
        assert self.steps is not None
        return min(1.0, step / self.steps)


@dataclass(frozen=True)
class Plan:
    """One run. out: where state, log and curves go; a run found there is taken up where it stopped.

    save_every: seconds between two savings, each with a validation; they change nothing in what is learned. rate: the
    highest learning rate. averaging: what the averaged weights keep of themselves at every step; after n steps, of what
    they began with, its n-th power.
    """

    out: Path
    budget: Budget
    batch: int
    seed: int
    save_every: float
    rate: float = LEARNING_RATE
    averaging: float = AVERAGING


def train(
    learner: L,
    losses: Losses,
    frames: Frames,
    plan: Plan,
    validate: Callable[[L], dict[str, float]],
    save: Callable[[L], None],
) -> L:
    """Minimise ``losses(batch, generator)["total"]``; returns the learner with its averaged weights.

    Parameters that require no gradient stay what they are.

    In each of several processes, on its share of the batch, where they were started by `reference.parallel`.
    losses: a method of ``learner``. validate, save: called with the averaged learner at every saving.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    device = next(learner.parameters()).device
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=plan.rate, betas=BETAS, fused=True)
    average = copy.deepcopy(learner).requires_grad_(False).eval()
    step, seconds = _resume(plan, learner, average, optimiser)
    began = saved = time.monotonic()
    earlier = seconds

    def keep() -> None:
        _log(plan, {"step": step, "minutes": round(seconds / 60, 3), **validate(average)})
        save(average)
        _write_state(plan, step, seconds, learner, average, optimiser)
        draw_curves(plan.out / LOG, plan.out / CURVES)

    while (spent := plan.budget.spent(step, seconds)) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * spent))
        generator = torch.Generator().manual_seed((plan.seed * 10_000_019 + step) * processes() + rank())
        found = losses(draw(frames, plan.batch // processes(), generator).to(device), generator)
        optimiser.zero_grad()
        torch.autograd.backward(found["total"])
        average_gradients(trained)
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()
        _average(average, learner, plan.averaging)
        step += 1
        seconds = agreed(earlier + time.monotonic() - began)
        if step % LOG_EVERY == 0 and rank() == 0:
            parts = {name: round(loss.item(), 5) for name, loss in found.items()}
            rate = optimiser.param_groups[0]["lr"]
            _log(plan, {"step": step, "minutes": round(seconds / 60, 3), "rate": round(rate, 8), **parts})
        if time.monotonic() - saved >= plan.save_every and rank() == 0:
            keep()
            saved = time.monotonic()
    if rank() == 0:
        keep()
    return average


@torch.no_grad()
def _average(average: nn.Module, learner: nn.Module, kept: float) -> None:
    pairs = zip(average.parameters(), learner.parameters(), strict=True)
    slow, fast = zip(*(pair for pair in pairs if pair[1].requires_grad), strict=True)
    torch._foreach_lerp_(slow, fast, 1 - kept)


def _resume(plan: Plan, learner: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Take up an earlier run's weights, optimiser and log; returns its steps and seconds, 0 where there is none."""
    path = plan.out / STATE
    if not path.is_file():
        if rank() == 0:
            (plan.out / LOG).unlink(missing_ok=True)
        return 0, 0.0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        learner.load_state_dict(state["learner"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        seed, batch, rate = state["seed"], state["batch"], state["rate"]
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise BadInput(f"{path} is no state of this training: {error}; choose another --out") from error
    if (seed, batch, rate) != (plan.seed, plan.batch, plan.rate):
        raise BadInput(f"{path} was trained with --seed {seed} --batch {batch} and rate {rate:g}: give the same")
    if rank() == 0:
        _forget_after(plan, state["step"])
    return state["step"], state["seconds"]


def _forget_after(plan: Plan, step: int) -> None:
    """Drop what was logged after the state was last saved."""
    lines = (plan.out / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= step]
    (plan.out / LOG).write_text("".join(kept), encoding="utf-8")


def _write_state(
    plan: Plan, step: int, seconds: float, learner: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    partial = plan.out / f"{STATE}.partial"
    state = {
        "step": step,
        "seconds": seconds,
        "seed": plan.seed,
        "batch": plan.batch,
        "rate": plan.rate,
        "learner": learner.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    torch.save(state, partial)
    os.replace(partial, plan.out / STATE)


def _log(plan: Plan, entry: dict[str, Any]) -> None:
    with (plan.out / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
