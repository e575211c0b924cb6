"""Statistics that LeRobot up to 0.3, and its forks of spring 2025, keep among the weights.

``normalize_inputs.buffer_observation_state.mean`` and their like: a feature's name has ``_`` for ``.``. Those of
``normalize_targets`` are used in training alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_fields import TENSORS
from vla_export.checkpoints.policy_config import Kind, Mode, PolicyConfig
from vla_export.checkpoints.processing import NEW_LINE, Processing, normalisation
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

MODULES: Mapping[Kind, str] = {"STATE": "normalize_inputs", "ACTION": "unnormalize_outputs"}
TRAINING = "normalize_targets"
EPSILON = 1e-8  # what the normaliser adds to every width, and the unnormaliser to none
MODES: tuple[Mode, ...] = ("MEAN_STD", "MIN_MAX", "IDENTITY")  # all that these releases know


def is_buffer(name: str) -> bool:
    """Whether a stored tensor is a statistic."""
    return name.split(".")[0] in (*MODULES.values(), TRAINING)


def read_buffers(contents: Contents, config: PolicyConfig) -> Processing:
    """Read the statistics of a checkpoint whose config.json says ``config``.

    Raises `BadInput` naming statistics that are missing, unknown, or were never set.
    """
    statistics: dict[Kind, dict[str, list[float]]] = {"STATE": {}, "ACTION": {}}
    known = {f"{module}.{_buffer(kind)}": kind for kind, module in MODULES.items()}
    known_in_training = f"{TRAINING}.{_buffer('ACTION')}"
    for name in filter(is_buffer, contents.tensors):
        buffer, _, statistic = name.rpartition(".")
        if buffer in known:
            statistics[known[buffer]][statistic] = contents.tensors.read(name).double().tolist()
        elif buffer != known_in_training:
            raise BadInput(
                f"{contents.tensors.path}: {name} are statistics of something else than state and action, or of "
                "several robots; finetune the policy on the robot's data"
            )
    return Processing(
        sources={},
        prompt=NEW_LINE,
        tokenizer=config.tokenizer,
        state=_normalisation(contents.tensors, "STATE", config, statistics, config.state.numbers, EPSILON),
        action=_normalisation(contents.tensors, "ACTION", config, statistics, config.action.numbers, 0.0),
    )


def _buffer(kind: Kind) -> str:
    return f"buffer_{TENSORS[kind].replace('.', '_')}"


def _normalisation(
    stored: StoredTensors,
    kind: Kind,
    config: PolicyConfig,
    statistics: Mapping[Kind, Mapping[str, list[float]]],
    numbers: int,
    guard: float,
) -> Normalisation:
    mode = config.modes[kind]
    if mode not in MODES:
        raise BadInput(f"{stored.path}: {kind} is normalised by {mode}, whose statistics are never among the weights")
    name = f"{MODULES[kind]}.{_buffer(kind)}"
    return normalisation(str(stored.path), name, mode, statistics[kind], numbers, guard)
