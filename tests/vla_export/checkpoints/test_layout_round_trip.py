"""The same weights through every layout: read back, they are the same policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.vla_export.checkpoints.golden_policies import GOLDENS, copy_checkpoint
from tests.vla_export.checkpoints.layout_writers import (
    as_lerobot_0_3,
    as_lerobot_0_4,
    as_lora_sp,
    as_openpi,
    in_shards,
)
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_runtime.bundle.manifest import Normalisation

ROUND_TRIPS = [
    ("pi0", as_lerobot_0_4),
    ("pi0", as_lerobot_0_3),
    ("pi0", as_lora_sp),
    ("pi0", as_openpi),
    ("pi05", as_lerobot_0_4),
    ("pi05", as_openpi),
    ("smolvla", as_lerobot_0_4),
    ("smolvla", as_lerobot_0_3),
    ("smolvla", as_lora_sp),
]
Writer = Callable[[Path], None]


def closely(one: Normalisation, other: Normalisation) -> bool:
    """Equal but for the epsilon that each project adds to a width."""
    pairs = [*zip(one.offset, other.offset, strict=True), *zip(one.scale, other.scale, strict=True)]
    return one.mode == other.mode and all(abs(a - b) < 2e-6 for a, b in pairs)


@pytest.fixture(params=ROUND_TRIPS, ids=lambda trip: f"{trip[0]}-{trip[1].__name__}")
def trip(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Checkpoint, Path]:
    """The policy as LeRobot 0.6 saved it, and the directory with the same in another layout."""
    family, write = request.param
    directory = copy_checkpoint(GOLDENS / family, tmp_path)
    newest = read(copy_checkpoint(GOLDENS / family, tmp_path / "newest"))
    write(directory)
    return newest, directory


def assert_same(newest: Checkpoint, found: Checkpoint) -> None:
    assert found.family == newest.family
    expected = newest.model.state_dict()
    assert found.model.state_dict().keys() == expected.keys()
    for name, tensor in found.model.state_dict().items():
        wanted = expected[name]
        assert torch.equal(tensor, wanted[:, : tensor.shape[1]] if name == "state_proj.weight" else wanted)
    one, other = found.interface, newest.interface
    assert [c.name for c in one.cameras] == [c.name for c in other.cameras] == ["side", "wrist"]
    assert (one.horizon, one.rate, one.flow_steps) == (other.horizon, other.rate, other.flow_steps)
    assert one.tokenizer.template == other.tokenizer.template
    for space in ("state", "action"):
        assert getattr(one, space).dimensions == getattr(other, space).dimensions
        assert closely(getattr(one, space).normalisation, getattr(other, space).normalisation)


def test_the_policy_is_the_same(trip: tuple[Checkpoint, Path]) -> None:
    newest, directory = trip
    assert_same(newest, read(directory))


def test_the_policy_is_the_same_in_shards(trip: tuple[Checkpoint, Path]) -> None:
    newest, directory = trip
    in_shards(directory)
    assert_same(newest, read(directory))


def test_an_adapter_finds_every_linear_by_its_name_in_that_layout(trip: tuple[Checkpoint, Path]) -> None:
    _, directory = trip
    found, stored = read(directory), load_file(directory / "model.safetensors")
    linears = {name for name, module in found.model.named_modules() if isinstance(module, nn.Linear)}
    named = {name.removesuffix(".weight") for name in stored} & found.modules.keys()
    assert {found.modules[name] for name in named} == linears
    for name in named:
        assert torch.equal(found.model.get_submodule(found.modules[name]).weight, stored[f"{name}.weight"])
