"""The common shortcut: an input-conditional adapter merged with its scores averaged, as a whole policy."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reference.checkpoint import replacing
from results.places import OUT
from vla_export.adapters.adapter import Branch
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.layer_tokens import Tokens, layer_tokens
from vla_export.adapters.least_squares import Affine
from vla_export.adapters.reading import read_adapter
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import gated_directions, routed_linears
from vla_export.adapters.static_linear import folded, replace
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.reading import read
from vla_export.checkpoints.stored_tensors import FILE
from vla_export.models.flow_model import FlowModel
from vla_export.observations import recorded
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.bundle import sha256
from vla_runtime.errors import WorkFailed


def mean_scores_checkpoint(name: str, checkpoint: Path, adapter: Path, calibration: Path) -> Path:
    """A checkpoint of ``checkpoint`` and ``adapter`` merged by mean scores over a recording's calibration samples.

    Kept where it was made before of the same adapter and the same recording. The samples are those that vla-export's
    own merges are fitted to. Raises `BadInput` for what vla-export would refuse.
    """
    made_of = hashlib.sha256(f"{sha256(adapter)} {calibration.name}".encode()).hexdigest()
    directory = OUT / "mean_scores" / f"{name}-{made_of[:8]}"
    if not directory.is_dir():
        _write(directory, checkpoint, adapter, calibration)
    return directory


@torch.no_grad()
def merge_mean_scores(model: FlowModel, samples: Sequence[Sample], flow_steps: int) -> None:
    """Put, in place, a plain linear of the weight W + B diag(E gates) A where ``model`` has a `RoutedLinear`.

    The expectation is over the tokens of ``samples`` that change an action, each linear's in the policy whose branches
    are all exact. Scales of a branch are in its B. Raises `WorkFailed`, naming the linear, where one never runs.
    """
    linears = routed_linears(model)
    means = {path: _Mean(linear.branch) for path, linear in linears.items()}
    with layer_tokens(model, {path: mean.receive for path, mean in means.items()}):
        for sample in samples:
            sample_actions(model, sample, flow_steps)
    for path, linear in linears.items():
        replace(model, path, _plain(path, linear, means[path].over_tokens(path)))


class _Mean:
    """A branch's gates, averaged."""

    def __init__(self, branch: Branch) -> None:
        self._branch, self._sum, self._tokens = branch, torch.zeros(len(branch.A), dtype=torch.float64), 0

    def receive(self, tokens: Tokens) -> None:
        _, gates = gated_directions(tokens.x, self._branch)
        self._sum += gates.double().sum(0)
        self._tokens += len(gates)

    def over_tokens(self, path: str) -> Tensor:
        """(directions,), float64."""
        if not self._tokens:
            raise WorkFailed(f"{path}: carries an adapter but never ran; the policy does not use this linear")
        return self._sum / self._tokens


def _plain(path: str, linear: RoutedLinear, gates: Tensor) -> nn.Linear:
    A = linear.branch.A
    merged = folded(path, linear, Affine((gates[:, None] * A.double()).float(), A.new_zeros(len(A))))
    merged.bias = linear.base.bias  # a mean of scores adds none
    return merged


def _write(directory: Path, checkpoint: Path, adapter: Path, calibration: Path) -> None:
    update = read_adapter(adapter)
    found = read(checkpoint, False, update.policy)
    apply_exact(found.model, update, found.modules)
    merge_mean_scores(found.model, recorded(found.interface, calibration).calibration, found.interface.flow_steps)
    tensors = {PI0_KEYS.theirs(ours): tensor.contiguous() for ours, tensor in found.model.state_dict().items()}
    directory.parent.mkdir(parents=True, exist_ok=True)
    with replacing(directory) as partial:
        for file in checkpoint.iterdir():
            if file.is_file() and not file.name.startswith("adapter") and file.name != FILE:
                shutil.copyfile(file, partial / file.name)
        save_file(load_file(checkpoint / FILE) | tensors, partial / FILE, metadata={"format": "pt"})
