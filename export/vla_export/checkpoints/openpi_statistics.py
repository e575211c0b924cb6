"""openpi's statistics: ``assets/<name>/norm_stats.json``, of the data as its training transformed it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.policy_config import Kind, PolicyConfig, Prompt
from vla_export.checkpoints.processing import STATE_IN_WORDS, Processing, normalisation
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

ASSETS, FILE = "assets", "norm_stats.json"
EPSILON = 1e-6  # what openpi adds to every width, in and out
SPACES: Mapping[Kind, Literal["state", "actions"]] = {"STATE": "state", "ACTION": "actions"}
PROMPTS = {"pi0": Prompt("{task}\n", plain_task=True), "pi05": STATE_IN_WORDS}


class Statistics(BaseModel):
    """Of one space; each of shape (n,)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    q01: tuple[float, ...] | None = None
    q99: tuple[float, ...] | None = None


class NormStats(BaseModel):
    """What the policy was trained on; statistics of anything else are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Statistics
    actions: Statistics


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    norm_stats: NormStats


def find_norm_stats(contents: Contents) -> tuple[Path, NormStats]:
    """The one file of statistics; raises `BadInput` where there is none, or several robots' lie there."""
    found = sorted(contents.directory.glob(f"{ASSETS}/**/{FILE}"))
    if not found:
        raise BadInput(
            f"no {ASSETS}/*/{FILE} in {contents.directory}: openpi's statistics say how states and actions are "
            "normalised; copy the assets of the training's config there"
        )
    if len(found) > 1:
        names = ", ".join(str(path.parent.relative_to(contents.directory)) for path in found)
        raise BadInput(
            f"{contents.directory}: statistics of several robots ({names}): leave those of the one to be used"
        )
    return found[0], validate(_File, read_json(found[0]), found[0]).norm_stats


def read_norm_stats(contents: Contents, config: PolicyConfig) -> Processing:
    """Read the statistics of a checkpoint whose config.json says ``config``; raises `BadInput`."""
    path, statistics = find_norm_stats(contents)
    return Processing(
        sources={},
        prompt=PROMPTS[config.family],
        tokenizer=config.tokenizer,
        state=_normalisation(path, "STATE", config, statistics, config.state.numbers),
        action=_normalisation(path, "ACTION", config, statistics, config.action.numbers),
    )


def _normalisation(path: Path, kind: Kind, config: PolicyConfig, statistics: NormStats, numbers: int) -> Normalisation:
    name = SPACES[kind]
    found: dict[str, tuple[float, ...]] = getattr(statistics, name).model_dump(exclude_none=True)
    return normalisation(str(path), name, config.modes[kind], found, numbers, EPSILON)
