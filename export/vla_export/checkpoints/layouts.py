"""Who wrote a checkpoint: the four layouts, and how its keys and fields tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vla_export.checkpoints import (
    lerobot_0_3_pi0_config,
    lerobot_paligemma_config,
    lerobot_smolvla_config,
    openpi_config,
)
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_buffers import is_buffer, read_buffers
from vla_export.checkpoints.lerobot_processors import POSTPROCESSOR, PREPROCESSOR, read_processors
from vla_export.checkpoints.openpi_statistics import read_norm_stats
from vla_export.checkpoints.policy_config import PolicyConfig
from vla_export.checkpoints.processing import Processing
from vla_runtime.errors import BadInput

ReadConfig = Callable[[Contents], PolicyConfig]
ReadProcessing = Callable[[Contents, PolicyConfig], Processing]


@dataclass(frozen=True)
class Layout:
    """One way to lay a checkpoint out; what a family means in it is its own.

    marks: what it is recognised by, in words. recognises: whether those are there. family: of a checkpoint so laid out.
    configs: by family, how its config.json is read. processing: how what is done around the policy is read.
    """

    name: str
    marks: str
    recognises: Callable[[Contents], bool]
    family: Callable[[Contents], object]
    configs: Mapping[str, ReadConfig]
    processing: ReadProcessing


def _is_lerobots(contents: Contents) -> bool:
    return "type" in contents.config


LAYOUTS = (
    Layout(
        name="LeRobot 0.4 to 0.6",
        marks=f"'type' in config.json, and {PREPROCESSOR} with {POSTPROCESSOR}",
        recognises=lambda c: _is_lerobots(c) and (c.has(PREPROCESSOR) or c.has(POSTPROCESSOR)),
        family=lambda c: c.config["type"],
        configs={
            "pi0": lerobot_paligemma_config.read_pi0,
            "pi05": lerobot_paligemma_config.read_pi05,
            "smolvla": lerobot_smolvla_config.read_smolvla,
        },
        processing=read_processors,
    ),
    Layout(
        name="LeRobot up to 0.3 or LoRA-SP",
        marks="'type' in config.json, and tensors normalize_inputs.buffer_*",
        recognises=lambda c: _is_lerobots(c) and any(map(is_buffer, c.tensors)),
        family=lambda c: c.config["type"],
        configs={"pi0": lerobot_0_3_pi0_config.read_pi0, "smolvla": lerobot_smolvla_config.read_smolvla},
        processing=read_buffers,
    ),
    Layout(
        name="openpi's conversion to PyTorch",
        marks="action_dim and action_horizon, but no 'type' in config.json",
        recognises=lambda c: not _is_lerobots(c) and {"action_dim", "action_horizon"} <= c.config.keys(),
        family=openpi_config.openpi_family,
        configs={"pi0": openpi_config.read_pi0, "pi05": openpi_config.read_pi05},
        processing=read_norm_stats,
    ),
)
WRAPPED = ".base.weight"  # what LoRA-SP calls the weight of a linear that it has given an adapter


def read_layout(contents: Contents) -> tuple[PolicyConfig, Processing]:
    """Recognise a checkpoint's layout and family and read its small files.

    Raises `BadInput` where none or several layouts are recognised, and for whatever the one that is cannot honour.
    """
    layout = _recognise(contents)
    family = layout.family(contents)
    if not isinstance(family, str) or family not in layout.configs:
        raise BadInput(
            f"{contents.config_path}: unknown family {family!r} in 'type'; supported in the layout of {layout.name}: "
            f"{', '.join(layout.configs)}"
        )
    config = layout.configs[family](contents)
    return config, layout.processing(contents, config)


def _recognise(contents: Contents) -> Layout:
    wrapped = [name for name in contents.tensors if name.endswith(WRAPPED)]
    if wrapped:
        raise BadInput(
            f"{contents.tensors.path}: {len(wrapped)} linears are wrapped in adapters ({wrapped[0]}, …): apply "
            "them with --merge, without another adapter beside them"
        )
    found = [layout for layout in LAYOUTS if layout.recognises(contents)]
    if len(found) == 1:
        return found[0]
    if found:
        marks = "; and ".join(f"{layout.marks} ({layout.name})" for layout in found)
        raise BadInput(f"{contents.directory} is laid out in two ways at once: {marks}; keep the files of one")
    if _is_lerobots(contents):
        raise BadInput(
            f"no statistics in {contents.directory}: neither {PREPROCESSOR} and {POSTPROCESSOR} (LeRobot since 0.4) "
            "nor tensors normalize_inputs.buffer_* (before); a base model has none: finetune it on the robot's data"
        )
    known = "; ".join(f"{layout.name}: {layout.marks}" for layout in LAYOUTS)
    fields = ", ".join(sorted(contents.config)[:5]) or "nothing"
    raise BadInput(f"{contents.config_path}: no layout that is known here ({fields}, …); known are {known}")
