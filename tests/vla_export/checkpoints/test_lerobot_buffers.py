from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.vla_export.checkpoints.golden_policies import LAYOUTS, change_config, copy_checkpoint
from vla_export.checkpoints.contents import open_contents
from vla_export.checkpoints.layouts import read_layout
from vla_export.checkpoints.processing import NEW_LINE, Processing
from vla_runtime.errors import BadInput

MEAN = "normalize_inputs.buffer_observation_state.mean"
Tensors = dict[str, Tensor]


def read(directory: Path) -> Processing:
    return read_layout(open_contents(directory))[1]


@pytest.fixture
def old_checkpoint(tmp_path: Path) -> Path:
    return copy_checkpoint(LAYOUTS / "lerobot_0_3_pi0", tmp_path)


def change(checkpoint: Path, edit: Callable[[Tensors], object]) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    edit(tensors)
    save_file(tensors, checkpoint / "model.safetensors")


def test_statistics_come_from_among_the_weights(old_checkpoint: Path) -> None:
    stored, found = load_file(old_checkpoint / "model.safetensors"), read(old_checkpoint)
    assert found.state.offset == tuple(stored[MEAN].double().tolist())
    assert found.action.offset == tuple(stored["unnormalize_outputs.buffer_action.mean"].double().tolist())
    assert found.action.scale == tuple(stored["unnormalize_outputs.buffer_action.std"].double().tolist())
    assert (found.prompt, found.sources) == (NEW_LINE, {})


def test_those_of_training_alone_are_never_used(old_checkpoint: Path) -> None:
    before = read(old_checkpoint)
    change(old_checkpoint, lambda t: t.update({"normalize_targets.buffer_action.mean": torch.full((7,), torch.nan)}))
    assert read(old_checkpoint) == before


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_statistics_that_were_never_set(old_checkpoint: Path, value: float) -> None:
    change(old_checkpoint, lambda t: t.update({MEAN: torch.full((7,), value)}))
    with pytest.raises(BadInput, match=f"{MEAN} .*finetune"):
        read(old_checkpoint)


def test_missing_statistics_are_named(old_checkpoint: Path) -> None:
    change(old_checkpoint, lambda t: t.pop(MEAN))
    with pytest.raises(BadInput, match=f"no statistics {MEAN}, they have std: .*finetune"):
        read(old_checkpoint)


@pytest.mark.parametrize(
    "name",
    [
        "normalize_inputs.so100-red_buffer_observation_state.mean",
        "normalize_inputs.buffer_observation_images_side.mean",
        "normalize_inputs.buffer_action.mean",
    ],
)
def test_statistics_of_anything_else_are_named(old_checkpoint: Path, name: str) -> None:
    change(old_checkpoint, lambda t: t.update({name: torch.zeros(7)}))
    with pytest.raises(BadInput, match=name):
        read(old_checkpoint)


def test_quantiles_are_younger_than_this_layout(old_checkpoint: Path) -> None:
    change_config(old_checkpoint, normalization_mapping={"STATE": "QUANTILES", "ACTION": "MEAN_STD"})
    with pytest.raises(BadInput, match="STATE is normalised by QUANTILES"):
        read(old_checkpoint)
