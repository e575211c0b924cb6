"""From raw images, text and state to actions in the robot's units: what the projects' own code computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.vla_export.checkpoints.golden_policies import (
    GOLDENS,
    LAYOUTS,
    Golden,
    act,
    copy_checkpoint,
    error,
    observe,
    read_golden,
    with_cameras,
)
from vla_export.checkpoints.reading import read
from vla_runtime.policy.actions import absolute_actions

TOLERANCE = 1e-5
FAMILIES = ("pi0", "pi05", "smolvla")
OLDER = sorted(path.name for path in LAYOUTS.iterdir())


def variants(family: str) -> dict[str, dict[str, object]]:
    return dict(read_golden(GOLDENS / f"{family}_cameras.safetensors").about["variants"])


def check(checkpoint: Path, golden: Golden, prefix: str = "", *, adds_up_time: bool = False) -> None:
    policy = read(checkpoint)
    observed = observe(policy, golden)
    expected = golden.computed[f"{prefix}chunk"][0]
    words = observed["token_mask"].sum()
    assert torch.equal(observed["tokens"][0, :words], golden.computed[f"{prefix}tokens"][0, :words])
    assert words == golden.computed[f"{prefix}token_mask"].sum()
    chunk, actions = act(policy, observed, golden, adds_up_time=adds_up_time)
    assert error(chunk[:, :7], expected[:, :7]) < TOLERANCE
    assert error(actions, golden.computed[f"{prefix}actions"][0]) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_lerobot_0_6(family: str, tmp_path: Path) -> None:
    check(copy_checkpoint(GOLDENS / family, tmp_path), read_golden(GOLDENS / f"{family}_outputs.safetensors"))


@pytest.mark.parametrize(("family", "variant"), [(family, name) for family in FAMILIES for name in variants(family)])
def test_cameras_and_settings(family: str, variant: str, tmp_path: Path) -> None:
    golden = read_golden(GOLDENS / f"{family}_cameras.safetensors")
    checkpoint = copy_checkpoint(GOLDENS / family, tmp_path)
    with_cameras(checkpoint, golden.about["cameras"], golden.about["variants"][variant])
    check(checkpoint, golden, f"{variant}.")


@pytest.mark.parametrize("layout", OLDER)
def test_older_layouts(layout: str, tmp_path: Path) -> None:
    golden = read_golden(LAYOUTS / layout / "outputs.safetensors")
    check(copy_checkpoint(LAYOUTS / layout, tmp_path), golden, adds_up_time="0_4" not in layout)


def test_relative_actions(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "pi0", tmp_path)
    for file in (GOLDENS / "relative").iterdir():
        (checkpoint / file.name).write_bytes(file.read_bytes())
    interface = read(checkpoint).interface
    assert interface.action.relative == (True,) * 6 + (False,)
    golden = load_file(GOLDENS / "relative_outputs.safetensors")
    chunk = torch.nn.functional.pad(golden["chunk"][0], (0, interface.action.padded_to - 7))
    state = golden["raw_state"].double().numpy()
    actions = absolute_actions(chunk.numpy(), state, interface.state, interface.action)
    assert error(actions, golden["actions"][0]) < TOLERANCE


def test_the_order_of_cameras_matters(tmp_path: Path) -> None:
    """So that the tests above would notice a reader that sorts them."""
    golden = read_golden(GOLDENS / "pi0_cameras.safetensors")
    sizes, variant = golden.about["cameras"], dict(golden.about["variants"]["three"])
    variant["cameras"] = list(reversed(variant["cameras"]))
    checkpoint = copy_checkpoint(GOLDENS / "pi0", tmp_path)
    with_cameras(checkpoint, sizes, variant)
    policy = read(checkpoint)
    _, actions = act(policy, observe(policy, golden), golden, adds_up_time=False)
    assert error(actions, golden.computed["three.actions"][0]) > 1e-3


def test_what_transformers_4_57_made_of_smolvlas_positions(tmp_path: Path) -> None:
    """Patch n of a row or column stood at position max(n - 1, 0), in float32: a checkpoint does not tell, docs do."""
    source = LAYOUTS / "lerobot_0_4_smolvla"
    golden, expected = read_golden(source / "outputs.safetensors"), load_file(source / "outputs_shifted.safetensors")
    policy = read(copy_checkpoint(source, tmp_path))
    positions = policy.model.get_parameter("vision.position_embedding")
    side = round(len(positions) ** 0.5)
    shifted = torch.tensor([max(n - 1, 0) for n in range(side)])
    with torch.no_grad():
        positions.copy_(positions.view(side, side, -1)[shifted][:, shifted].reshape(positions.shape).clone())
    chunk, _ = act(policy, observe(policy, golden), golden, adds_up_time=False)
    assert error(chunk[:, :7], expected["chunk"][0, :, :7]) < TOLERANCE
    assert error(golden.computed["chunk"], expected["chunk"]) > 1e-3
