"""Against LeRobot 0.6.1, whose answers tests/oracles/pi05_lerobot.py wrote."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.vla_export.models.tiny_families import FLOW_STEPS, golden, observed, pi05, relative_error
from vla_export.models.pi05 import Pi05

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model() -> Pi05:
    return pi05()


@pytest.fixture(scope="module")
def theirs() -> dict[str, Tensor]:
    return golden("pi05")


@pytest.fixture(scope="module")
def prefix(model: Pi05, theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        return model.encode(observed(theirs))


def test_the_golden_masks_words_and_has_no_state_but_in_them(theirs: dict[str, Tensor]) -> None:
    assert 0 < int(theirs["token_mask"].sum()) < theirs["token_mask"].numel()
    assert set(observed(theirs)) == {"images", "tokens", "token_mask"}
    assert b"State: " in bytes(theirs["prompt"].tolist())


@torch.no_grad()
def test_prefix_keys_and_values_of_every_layer(
    model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor]
) -> None:
    assert relative_error(model.embed(theirs["images"], theirs["tokens"].int()), theirs["prefix"]) < TOLERANCE
    seen = theirs["prefix_mask"]
    assert torch.equal(prefix["prefix_mask"], seen)
    names = {f"{what}_{n:02d}" for what in ("key", "value") for n in range(len(model.language))}
    assert set(prefix) == {"prefix_mask", *names}
    for name in names:
        assert relative_error(prefix[name][:, :, seen[0]], theirs[name][:, :, seen[0]]) < TOLERANCE, name


@torch.no_grad()
def test_one_step(model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    time = torch.tensor([0.7])
    assert relative_error(model.condition(time), theirs["conditioning"]) < TOLERANCE
    assert relative_error(model.velocity(theirs["noise"], time, prefix), theirs["velocity"]) < TOLERANCE


@torch.no_grad()
def test_ten_steps(model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    chunk, noise = model.sample(prefix, theirs["noise"], FLOW_STEPS), theirs["noise"]
    # The integral itself, not only its sum with the noise.
    assert relative_error(chunk - noise, theirs["chunk"] - noise) < TOLERANCE


@torch.no_grad()
def test_padding_words_change_nothing(model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    inputs = observed(theirs)
    other = torch.where(theirs["token_mask"], inputs["tokens"], inputs["tokens"] + 7)
    assert not torch.equal(other, inputs["tokens"])
    changed = model.sample(model.encode(inputs | {"tokens": other}), theirs["noise"], FLOW_STEPS)
    torch.testing.assert_close(changed, model.sample(prefix, theirs["noise"], FLOW_STEPS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["images", "tokens"])
@torch.no_grad()
def test_every_input_matters(model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor], name: str) -> None:
    inputs = observed(theirs)
    changed = {
        "images": inputs["images"].flip(0),
        "tokens": torch.where(theirs["token_mask"], inputs["tokens"].flip(1), inputs["tokens"]),
    }[name]
    chunk = model.sample(model.encode(inputs | {name: changed}), theirs["noise"], FLOW_STEPS)
    assert relative_error(chunk, model.sample(prefix, theirs["noise"], FLOW_STEPS)) > 1e-3


@torch.no_grad()
def test_actions_see_each_other_both_ways(model: Pi05, theirs: dict[str, Tensor], prefix: dict[str, Tensor]) -> None:
    later = theirs["noise"].clone()
    later[:, 6:] += 1.0
    before, after = (model.velocity(noise, torch.tensor([0.7]), prefix) for noise in (theirs["noise"], later))
    assert relative_error(after[:, :6], before[:, :6]) > 1e-3
