"""Against LeRobot 0.6.1, whose answers tests/oracles/pi0_lerobot.py wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.statistics import normalise, unnormalise
from vla_runtime.policy.tokens import TaskTokenizer

GOLDENS = Path(__file__).parents[2] / "oracles" / "goldens"
TOLERANCE = 1e-5
TASK = "put the red cube on the table"


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return read(GOLDENS / "pi0")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDENS / "pi0_outputs.safetensors")


@pytest.fixture(scope="module")
def prefix(checkpoint: Checkpoint, golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return encode(checkpoint, golden)


@torch.no_grad()
def encode(checkpoint: Checkpoint, golden: dict[str, Tensor], **changed: Tensor) -> dict[str, Tensor]:
    """Our prefix of the golden observation, whose last camera is LeRobot's masked, empty one."""
    seen = golden["image_mask"][0]
    inputs = {
        "images": golden["images"][seen],
        "tokens": golden["tokens"].int(),
        "token_mask": golden["token_mask"],
        "state": golden["state"],
    }
    return checkpoint.model.encode(inputs | changed)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


def test_the_golden_masks_words_and_a_camera(golden: dict[str, Tensor]) -> None:
    assert golden["image_mask"].tolist() == [[True, True, False]]
    assert 0 < int(golden["token_mask"].sum()) < golden["token_mask"].numel()


def test_prefix_keys_and_values_of_every_layer(
    checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    ours_seen, theirs_seen = prefix["prefix_mask"][0, :-1], golden["prefix_mask"][0]
    assert bool(prefix["prefix_mask"][0, -1])  # the state, which LeRobot computes anew in every step
    assert int(ours_seen.sum()) == int(theirs_seen.sum())
    depth = len(checkpoint.model.stacks()["language"])
    assert set(prefix) == {"prefix_mask", *(f"{w}_{n:02d}" for w in ("key", "value") for n in range(depth))}
    for n in range(depth):
        for what in ("key", "value"):
            name = f"{what}_{n:02d}"
            error = relative_error(prefix[name][:, :, :-1][:, :, ours_seen], golden[name][:, :, theirs_seen])
            assert error < TOLERANCE, name


@torch.no_grad()
def test_one_step(checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    time, next_time = torch.tensor([0.7]), torch.tensor([0.6])
    velocity = checkpoint.model.velocity(golden["noise"], time, prefix)
    assert relative_error(velocity, golden["velocity"]) < TOLERANCE
    step = checkpoint.model.denoise(golden["noise"], time, next_time, prefix)
    assert relative_error(step, golden["noise"] - 0.1 * golden["velocity"]) < TOLERANCE


@torch.no_grad()
def test_ten_steps(checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    chunk = checkpoint.model.sample(prefix, golden["noise"], checkpoint.interface.flow_steps)
    assert checkpoint.interface.flow_steps == 10
    assert relative_error(chunk, golden["chunk"]) < TOLERANCE
    # The integral itself, not only its sum with the noise.
    assert relative_error(chunk - golden["noise"], golden["chunk"] - golden["noise"]) < TOLERANCE


@torch.no_grad()
def test_from_camera_frames_to_the_robots_units(checkpoint: Checkpoint, golden: dict[str, Tensor]) -> None:
    interface = checkpoint.interface
    images = np.stack([letterbox(golden[f"frame.{c.name}"].numpy(), c.height, c.width) for c in interface.cameras])
    tokens, token_mask = TaskTokenizer(interface.tokenizer_definition, interface.tokenizer)(TASK)
    np.testing.assert_array_equal(tokens, golden["tokens"].numpy())
    np.testing.assert_array_equal(token_mask, golden["token_mask"].numpy())
    state = normalise(golden["raw_state"].numpy()[None], interface.state)
    np.testing.assert_allclose(state, golden["state"].numpy(), rtol=1e-6, atol=1e-6)
    observed = {"images": images, "tokens": tokens, "token_mask": token_mask, "state": state}
    prefix = checkpoint.model.encode({name: torch.from_numpy(array) for name, array in observed.items()})
    chunk = checkpoint.model.sample(prefix, golden["noise"], interface.flow_steps)
    actions = unnormalise(chunk.numpy(), interface.action)
    assert relative_error(torch.from_numpy(actions).float(), golden["actions"]) < 1e-4


@torch.no_grad()
def test_padding_words_change_nothing(
    checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    other = torch.where(golden["token_mask"], golden["tokens"], golden["tokens"] + 7).int()
    assert not torch.equal(other, golden["tokens"].int())
    changed = checkpoint.model.sample(encode(checkpoint, golden, tokens=other), golden["noise"], 10)
    torch.testing.assert_close(changed, checkpoint.model.sample(prefix, golden["noise"], 10), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["images", "tokens", "state"])
def test_every_input_matters(
    checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor], name: str
) -> None:
    changed = {
        "images": golden["images"][:2].flip(0),
        "tokens": golden["tokens"].int().flip(1).roll(int(golden["token_mask"].sum()), 1),
        "state": golden["state"] + 0.5,
    }[name]
    chunk = checkpoint.model.sample(encode(checkpoint, golden, **{name: changed}), golden["noise"], 10)
    assert relative_error(chunk, checkpoint.model.sample(prefix, golden["noise"], 10)) > 1e-3


@torch.no_grad()
def test_the_prefix_sees_no_state_but_the_states_own(
    checkpoint: Checkpoint, golden: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    changed = encode(checkpoint, golden, state=golden["state"] + 0.5)
    for name in prefix:
        if name != "prefix_mask":
            assert torch.equal(prefix[name][:, :, :-1], changed[name][:, :, :-1])
            assert not torch.equal(prefix[name][:, :, -1], changed[name][:, :, -1])
