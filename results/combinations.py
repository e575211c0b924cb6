"""What can be put together to make an adapted policy fast: merge, depth, width, finetuning and precision."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from results import demonstrations
from results.finetune import finetune_on
from results.observations import calibration
from results.places import OUT, POLICY, VLM
from results.recipes import Recipe, export_all
from results.setting import TASKS

DEPTH, WIDTH = "gate-kv:0.25", "divergence:language.mlp=0.25"
BOTH = f"{DEPTH},{WIDTH}"
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Combination:
    """One way to put it together.

    merge: as `vla-export --merge` has it. prune: as ``--prune``, empty for nothing. finetuned: for how many steps in
    the shifted setting, after pruning, 0 for none.
    """

    merge: str
    prune: str = ""
    finetuned: int = 0
    precision: str = "fp32"

    @property
    def name(self) -> str:
        """As people read it."""
        finetuned = f"finetuned {self.finetuned} steps" if self.finetuned else ""
        parts = (f"{self.merge} merge", self.prune.replace(",", " + "), finetuned, self.precision)
        return ", ".join(part for part in parts if part)

    @property
    def slug(self) -> str:
        """In file names."""
        return "together-" + re.sub(r"[^a-z0-9.]+", "-", self.name)


EXACT = Combination("exact")
"""The adapted policy, uncompressed."""
SEARCHED = (Combination("auto", "auto:0.7"), Combination("auto", "auto:0.5"))
"""What the tool picks by itself."""


def combinations(steps: int) -> tuple[Combination, ...]:
    """All that are tried, the uncompressed one first. steps: of finetuning, where there is one.

    What is finetuned is a checkpoint of the policy's own project, which has no place for an adapter: hence the static
    merge, and hence something is pruned, for otherwise vla-export writes none.
    """
    merged = [Combination("auto", prune) for prune in ("", DEPTH, "gate-kv:0.5", "gate:0.17", WIDTH, BOTH)]
    finetuned = [Combination("static", prune, steps) for prune in ("gate-kv:0.5", "gate:0.33", BOTH)]
    fp32 = [EXACT, *merged, *finetuned]
    halves_and_bytes = [
        Combination(one.merge, one.prune, one.finetuned, precision)
        for one in fp32
        if one.prune in ("", BOTH)
        for precision in PRECISIONS[1:]
    ]
    return (*fp32, *SEARCHED, *halves_and_bytes)


def bundles(asked: Sequence[Combination], adapter: Path, workers: int) -> dict[Combination, Path]:
    """The bundle of each, made by ``workers`` processes; what was made before is kept."""
    recorded = calibration(TASKS, shifted=True)
    checkpoints = _finetuned([one for one in asked if one.finetuned], adapter, recorded, workers)
    recipes = {
        one: Recipe(one.slug, checkpoints[one], ("--calibration", str(recorded), "--precision", one.precision))
        if one.finetuned
        else Recipe(one.slug, POLICY, (*_flags(one, adapter, recorded), "--precision", one.precision))
        for one in asked
    }
    made = export_all(list(recipes.values()), workers)
    return {one: made[recipe.name] for one, recipe in recipes.items()}


def _finetuned(asked: Sequence[Combination], adapter: Path, recorded: Path, workers: int) -> dict[Combination, Path]:
    """The checkpoint of each: pruned by vla-export, then trained; those of other precisions are the same."""
    if not asked:
        return {}
    cuts = {one: Combination(one.merge, one.prune, precision="fp32") for one in asked}
    saved = {cut: OUT / "pruned" / cut.slug for cut in cuts.values()}
    export_all(
        [
            Recipe(f"{cut.slug}-to-finetune", POLICY, (*_flags(cut, adapter, recorded), "--save-pruned", str(path)))
            for cut, path in saved.items()
        ],
        workers,
    )
    runs = list(dict.fromkeys((cut, one.finetuned) for one, cut in cuts.items()))
    data = demonstrations.shifted()
    # Learning in one process outlives no fork, and two processes of one thread learn more than one of two.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        learning = {run: pool.submit(finetune_on, data, saved[run[0]], run[0].slug, run[1]) for run in runs}
        trained = {run: future.result() for run, future in learning.items()}
    return {one: trained[cut, one.finetuned] for one, cut in cuts.items()}


def _flags(one: Combination, adapter: Path, recorded: Path) -> tuple[str, ...]:
    flags = ["--merge", one.merge, "--adapter", str(adapter), "--calibration", str(recorded)]
    if one.merge == "static":
        flags += ["--force"]  # it is what is to be judged, beyond the error budget too
    if one.prune:
        flags += ["--prune", one.prune]
    if "divergence" in one.prune or "auto" in one.prune:
        flags += ["--base", str(VLM)]
    return tuple(flags)
