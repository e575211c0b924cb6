"""What a training checkpoint becomes once it is read: a model, what it sees and what it commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_export.checkpoints.weights import LoadedWeights
from vla_export.models.flow_model import FlowModel
from vla_runtime.bundle.manifest import Camera, Space, Tokenizer


@dataclass(frozen=True)
class Interface:
    """What the policy sees and commands, as the bundle's manifest will declare it.

    ``tokenizer_definition`` is what the bundle's file ``tokenizer.file`` holds.
    trained_cameras: the robot's name of each camera → its name in the data that the policy was trained on.
    """

    cameras: tuple[Camera, ...]
    trained_cameras: Mapping[str, str]
    state: Space
    action: Space
    horizon: int
    rate: float
    flow_steps: int
    tokenizer: Tokenizer
    tokenizer_definition: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. ``model`` is in evaluation mode, float32 or half precision as the reader was asked.

    modules: dotted path of each linear in the training project's policy → its path in ``model``.
    weights: where the model's tensors are stored, and the stored ones that inference never reads.
    """

    root: Path
    family: str
    sha256: str
    model: FlowModel
    interface: Interface
    modules: Mapping[str, str]
    weights: LoadedWeights
