"""What is done to an observation before a policy and to its actions after, whatever file says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_export.checkpoints.normalisation import Range, from_mean_std, from_range, identity
from vla_export.checkpoints.policy_config import Mode, Prompt
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

NEW_LINE = Prompt("{task}\n")
STATE_IN_WORDS = Prompt("Task: {task}, State: {state};\nAction: ", plain_task=True, state_bins=256)

# Which two statistics each mode needs, and what it is called in a manifest where they bound a range.
STATISTICS: dict[Mode, tuple[str, str]] = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
_RANGES: dict[Mode, Range] = {"MIN_MAX": "min_max", "QUANTILES": "quantiles", "QUANTILE10": "quantile10"}


@dataclass(frozen=True)
class Processing:
    """sources: the policy's name of a feature → the name the robot's data has, where they differ.

    tokenizer: the name of the one that made the tokens.
    """

    sources: Mapping[str, str]
    prompt: Prompt
    tokenizer: str
    state: Normalisation
    action: Normalisation


def normalisation(
    where: str, feature: str, mode: Mode, statistics: Mapping[str, Sequence[float]], numbers: int, guard: float
) -> Normalisation:
    """One space's, from the statistics of ``feature`` by name.

    guard: what the project adds to every width; see `vla_export.checkpoints.normalisation`. where: the file they are
    from, for messages. Raises `BadInput` naming the feature whose statistics are missing, of another length or not
    finite, as those of a base model are that was never finetuned.
    """
    if mode == "IDENTITY":
        return identity(numbers)
    first, second = (_vector(where, feature, name, statistics, numbers) for name in STATISTICS[mode])
    try:
        return (
            from_mean_std(first, second, guard)
            if mode == "MEAN_STD"
            else from_range(_RANGES[mode], first, second, guard)
        )
    except BadInput as error:
        raise BadInput(f"{where}: {feature}: {error}") from error


def _vector(
    where: str, feature: str, name: str, statistics: Mapping[str, Sequence[float]], numbers: int
) -> Sequence[float]:
    if name not in statistics:
        found = f"they have {', '.join(sorted(statistics))}" if statistics else "there are none of it at all"
        raise BadInput(
            f"{where}: no statistics {feature}.{name}, {found}: a base model has none; finetune it on the robot's "
            "data, or add the statistics of the data it is to be used with"
        )
    values = np.asarray(statistics[name], np.float64)
    if values.shape != (numbers,):
        raise BadInput(f"{where}: {feature}.{name} must be {numbers} finite numbers, it has shape {list(values.shape)}")
    if not np.isfinite(values).all():
        raise BadInput(
            f"{where}: {feature}.{name} must be {numbers} finite numbers, some are infinite: a base model's were never "
            "set; finetune it on the robot's data"
        )
    return values.tolist()
