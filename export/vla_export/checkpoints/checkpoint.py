"""What a training checkpoint becomes once it is read: a model, what it sees and what it commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_export.models.flow_model import FlowModel
from vla_runtime.bundle.manifest import Camera, Space, Tokenizer


@dataclass(frozen=True)
class Interface:
    """What the policy sees and commands, as the bundle's manifest will declare it.

    ``tokenizer.file`` is the name inside the bundle; ``tokenizer_path`` is where the file lies now.
    """

    cameras: tuple[Camera, ...]
    state: Space
    action: Space
    horizon: int
    rate: float
    flow_steps: int
    tokenizer: Tokenizer
    tokenizer_path: Path


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory. ``model`` is in evaluation mode, float32.

    modules: dotted path of each linear in the training project's policy → its path in ``model``.
    ignored: the checkpoint's tensors that inference never reads, each with the reason.
    """

    root: Path
    family: str
    sha256: str
    model: FlowModel
    interface: Interface
    modules: Mapping[str, str]
    ignored: Mapping[str, str]
