"""Training one adapter of the reference policy in the shifted setting, on both tasks together.

    python -m results.adapt METHOD [--steps N] [--rate X] [--out DIRECTORY]

METHOD: lora_sp, vla_gse or lora. DIRECTORY, by default out/results/adapters/METHOD, receives what the method's release
would have saved, and the training's log. The run, from which an interrupted command goes on, lies in
out/results/adapting. Where results/weights/METHOD is committed, the studies take that.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reference.demonstration_data import Batch, read_frames
from reference.learner import FlowLearner
from reference.training import LOG, Budget, Plan, train
from reference.validation import validate_chunks
from results import demonstrations
from results.adapters import lora, lora_sp, release_files, vla_gse
from results.flow_policy import flow_learner
from results.places import OUT, POLICY, ROOT
from vla_export.adapters.reading import BESIDE
from vla_export.checkpoints.reading import read
from vla_export.models.pi0 import Pi0
from vla_runtime.command import DONE, Parser, run
from vla_runtime.errors import BadInput

BATCH, SEED, SAVE_EVERY = 48, 0, 120.0
STEPS, RATE = 400, 3e-3


@dataclass(frozen=True)
class Method:
    """How one adapter is made and trained.

    wrap, extra_loss, active_ranks, settings: of its module in `results.adapters`. directions: of one linear, to choose
    from. rate: the highest in training.
    """

    title: str
    wrap: Callable[[Pi0, Any, torch.Generator], list[str]]
    extra_loss: Callable[[Pi0], Tensor]
    active_ranks: Callable[[Pi0], dict[str, float]]
    settings: Any
    directions: int
    steps: int
    rate: float


_LORA_SP, _VLA_GSE, _LORA = lora_sp.LoRASPSettings(), vla_gse.VLAGSESettings(), lora.LoRASettings()
METHODS = {
    "lora_sp": Method(
        "LoRA-SP", lora_sp.wrap, lora_sp.extra_loss, lora_sp.active_ranks, _LORA_SP, _LORA_SP.bank, STEPS, RATE
    ),
    "vla_gse": Method(
        "VLA-GSE", vla_gse.wrap, vla_gse.extra_loss, vla_gse.active_ranks, _VLA_GSE, _VLA_GSE.r, STEPS, RATE
    ),
    "lora": Method("LoRA", lora.wrap, lora.extra_loss, lora.active_ranks, _LORA, _LORA.rank, STEPS, RATE),
}


class AdapterLearner(FlowLearner):
    """A frozen policy wrapped with one method's adapter."""

    def __init__(self, policy: FlowLearner, method: Method, generator: torch.Generator) -> None:
        super().__init__(policy.model, policy.statistics)
        self._method = method
        method.wrap(self.model, method.settings, generator)

    @property
    def trained(self) -> int:
        """How many parameters training changes."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def trained_in_head(self) -> int:
        """How many of them are the policy's own, between its stacks and what it reads and commands."""
        own = (parameter for name in vla_gse.HEAD for parameter in self.model.get_submodule(name).parameters())
        return sum(parameter.numel() for parameter in own if parameter.requires_grad)

    def adaptation(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """``total``: the flow loss and the method's own; and the mean of directions used a token, by stack."""
        found = self.finetuning(batch, generator)
        own = self._method.extra_loss(self.model)
        return {"total": found["flow"] + own, "flow": found["flow"], "own": own, **self._active()}

    def _active(self) -> dict[str, Tensor]:
        ranks = self._method.active_ranks(self.model)
        by_stack: dict[str, list[float]] = {}
        for path, rank in ranks.items():
            by_stack.setdefault(path.partition(".")[0], []).append(rank)
        return {f"active_{stack}": torch.tensor(found).mean() for stack, found in by_stack.items()}


def adapt(method: Method, data: Sequence[Path], policy: Path, plan: Plan, release: Path) -> Path:
    """Train the adapter and write it; returns the path to give to ``vla-export --adapter``.

    data: directories of demonstrations. policy: the checkpoint that is adapted. release: where the files go.
    """
    frames, held_out = read_frames(data)
    learner = AdapterLearner(flow_learner(read(policy)), method, torch.Generator().manual_seed(plan.seed))
    trained = train(
        learner,
        learner.adaptation,
        frames,
        plan,
        validate=lambda average: validate_chunks(average, held_out),
        save=lambda average: None,
    )
    assert plan.budget.steps is not None
    path = release_files.write(release, trained.model, trained.statistics, plan.budget.steps)
    shutil.copyfile(plan.out / LOG, release / LOG)
    return path


def adapter(name: str) -> Path:
    """What to give to ``vla-export --adapter`` of a method by name; trained now where it has not been."""
    directory = release_directory(name)
    if not (directory / LOG).is_file():
        return _train(name, METHODS[name].steps, METHODS[name].rate, directory)
    saved = (directory.glob(pattern) for pattern in ("checkpoints/steps_*_pytorch_model.pt", BESIDE))
    return next(chain.from_iterable(saved), directory)


def release_directory(name: str) -> Path:
    """Where the studies look for what a method's release would have saved."""
    committed = ROOT / "results" / "weights" / name
    return committed if committed.is_dir() else OUT / "adapters" / name


def _train(name: str, steps: int, rate: float, release: Path) -> Path:
    run_directory = OUT / "adapting" / f"{name}-{steps}-{rate:g}"
    plan = Plan(run_directory, Budget(steps, None), BATCH, SEED, SAVE_EVERY, rate)
    return adapt(METHODS[name], demonstrations.shifted(), POLICY, plan, release)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _adapt(argv))


def _adapt(argv: Sequence[str] | None) -> int:
    parser = Parser(prog="python -m results.adapt", description="Train an adapter in the shifted setting.")
    parser.add_argument("method", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--steps", type=int, help="optimiser steps (default: the method's own)")
    parser.add_argument("--rate", type=float, help="highest learning rate (default: the method's own)")
    parser.add_argument("--out", type=Path, help="directory for the release's files (default: the studies')")
    asked = parser.parse_args(argv)
    if asked.method not in METHODS:
        raise BadInput(f"method '{asked.method}' is unknown: choose from {', '.join(METHODS)}")
    method = METHODS[asked.method]
    steps, rate = asked.steps or method.steps, asked.rate or method.rate
    release = asked.out or OUT / "adapters" / asked.method
    print(f"wrote {_train(asked.method, steps, rate, release)}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
