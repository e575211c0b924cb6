"""What can be put together to make an adapted policy fast: merge, depth, width, finetuning and precision."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from results import demonstrations
from results.finetune import finetune_on
from results.mean_scores import mean_scores_checkpoint
from results.merges import MEAN_SCORES
from results.observations import calibration
from results.places import OUT, POLICY, VLM
from results.recipes import Recipe, export_all
from results.setting import TASKS

DEPTH, WIDTH = "gate-kv:0.25", "divergence:language.mlp=0.25"
BOTH = f"{DEPTH},{WIDTH}"


@dataclass(frozen=True)
class Combination:
    """One way to put it together.

    merge: as `vla-export --merge` has it, or `results.merges.MEAN_SCORES`. prune: as ``--prune``, empty for nothing.
    finetuned: for how many steps in the shifted setting, after pruning, 0 for none.
    """

    merge: str
    prune: str = ""
    finetuned: int = 0
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """As people read it."""
        finetuned = f"finetuned {self.finetuned} steps" if self.finetuned else ""
        parts = (
            self.merge if self.merge == MEAN_SCORES else f"{self.merge} merge",
            self.prune.replace(",", " + "),
            finetuned,
            self.precision,
        )
        return ", ".join(part for part in parts if part)

    @property
    def slug(self) -> str:
        """In file names."""
        return _slug(f"together {self.name}")


EXACT = Combination("exact")
"""The adapted policy, uncompressed."""
SEARCHED = (Combination("auto", "auto:0.7"), Combination("auto", "auto:0.5"))
"""What the tool picks by itself."""


def combinations(steps: int) -> tuple[Combination, ...]:
    """All that are tried, the uncompressed one first. steps: of finetuning, where there is one.

    What is finetuned is a checkpoint of the policy's own project, which has no place for branches nor for the constants
    of a least squares merge: hence mean scores, whose error is left to the finetuning.
    """
    merged = [Combination("auto", prune) for prune in ("", DEPTH, "gate-kv:0.5", "gate:0.17", WIDTH, BOTH)]
    finetuned = [Combination(MEAN_SCORES, prune, steps) for prune in ("", "gate-kv:0.5", "gate:0.33", BOTH)]
    fp32 = [EXACT, *merged, *finetuned]
    # In eight bits weights and activations; in half precision no CPU computes, so that two show what it comes to.
    int8 = [replace(one, precision="int8") for one in fp32 if one.prune == BOTH or not (one.prune or one.finetuned)]
    fp16 = [replace(one, precision="fp16") for one in fp32 if one == EXACT or (one.finetuned and one.prune == BOTH)]
    return (*fp32, *SEARCHED, *int8, *fp16)


def bundles(asked: Sequence[Combination], method: str, adapter: Path, workers: int) -> dict[Combination, Path]:
    """The bundle of each, made by ``workers`` processes; what was made before is kept.

    adapter: trained by ``method`` in the shifted setting.
    """
    recorded = calibration(TASKS, shifted=True)
    merging = ("--adapter", str(adapter), "--calibration", str(recorded))
    checkpoints = _finetuned([one for one in asked if one.finetuned], method, adapter, workers)
    recipes = {}
    for one in asked:
        precision = ("--precision", one.precision)
        if one.finetuned:
            recipes[one] = Recipe(one.slug, checkpoints[one], ("--calibration", str(recorded), *precision))
        else:
            flags = ("--merge", one.merge, *merging, *_pruning(one.prune), *precision)
            recipes[one] = Recipe(one.slug, POLICY, flags)
    made = export_all(list(recipes.values()), workers)
    return {one: made[recipe.name] for one, recipe in recipes.items()}


def _finetuned(asked: Sequence[Combination], method: str, adapter: Path, workers: int) -> dict[Combination, Path]:
    """The checkpoint of each: merged by mean scores, pruned, then trained; precisions share one."""
    if not asked:
        return {}
    recorded = calibration(TASKS, shifted=True)
    merged = mean_scores_checkpoint(method, POLICY, adapter, recorded)
    prunes = list(dict.fromkeys(one.prune for one in asked))
    cuts = {prune: OUT / "pruned" / _slug(f"{merged.name} {prune}") if prune else merged for prune in prunes}
    export_all(
        [
            Recipe(f"{cut.name}-as-cut", merged, ("--calibration", str(recorded), *_pruning(prune), *_save(cut)))
            for prune, cut in cuts.items()
            if prune
        ],
        workers,
    )
    runs = dict.fromkeys((one.prune, one.finetuned) for one in asked)
    data = demonstrations.shifted()
    # Learning in one process outlives no fork, and two processes of one thread learn more than one of two.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        learning = {
            (prune, steps): pool.submit(finetune_on, data, cuts[prune], f"{cuts[prune].name}-shifted", steps)
            for prune, steps in runs
        }
        trained = {run: future.result() for run, future in learning.items()}
    return {one: trained[one.prune, one.finetuned] for one in asked}


def _pruning(prune: str) -> tuple[str, ...]:
    base = ("--base", str(VLM)) if "divergence" in prune or "auto" in prune else ()
    return ("--prune", prune, *base) if prune else ()


def _save(cut: Path) -> tuple[str, ...]:
    return ("--save-pruned", str(cut))


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", words)
