from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reference.policy_weights import TWINS
from reference.write_checkpoint import MEAN, STD, write_reference_checkpoint
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.reading import read
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.errors import BadInput


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "checkpoint"
    write_reference_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(directory: Path) -> Checkpoint:
    return read(directory)


@torch.no_grad()
def chunk(checkpoint: Checkpoint, state: Tensor, seed: int = 0, images: int = 0) -> Tensor:
    """The normalised chunk (16, 7) at a normalised state (7,)."""
    pictures = 0.5 * torch.randn(2, 3, 84, 84, generator=torch.Generator().manual_seed(images))
    tokens = torch.arange(48, dtype=torch.int32)[None] + 5
    padded = torch.zeros(1, 32)
    padded[0, :7] = state
    images, token_mask = pictures.clamp(-1, 1), torch.arange(48)[None] < 9
    prefix = checkpoint.model.encode({"images": images, "tokens": tokens, "token_mask": token_mask, "state": padded})
    noise = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(seed))
    return checkpoint.model.sample(prefix, noise, checkpoint.interface.flow_steps)[0, :, :7]


def test_the_same_seed_writes_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    write_reference_checkpoint(tmp_path / "again")
    names = sorted(p.name for p in directory.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "again").iterdir())
    assert all((directory / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)
    write_reference_checkpoint(tmp_path / "other", seed=1)
    weights = "model.safetensors"
    assert (directory / weights).read_bytes() != (tmp_path / "other" / weights).read_bytes()


def test_it_is_small(directory: Path) -> None:
    assert sum(p.stat().st_size for p in directory.iterdir()) < 15_000_000


def test_it_reads_as_any_lerobot_checkpoint(checkpoint: Checkpoint) -> None:
    interface = checkpoint.interface
    assert [c.name for c in interface.cameras] == ["side", "wrist"]
    assert (interface.horizon, interface.rate) == (16, 10.0)
    assert [d.name for d in interface.action.dimensions][-2:] == ["joint6", "gripper"]
    assert {name: len(stack) for name, stack in checkpoint.model.stacks().items()} == {
        "vision": 4,
        "language": 8,
        "expert": 8,
    }
    limits = torch.from_numpy(firmware_limits())
    declared = torch.tensor([(d.lower, d.upper) for d in interface.action.dimensions], dtype=torch.float64)
    assert bool((declared[:, 0] >= limits[:, 0]).all() and (declared[:, 1] <= limits[:, 1]).all())


def test_the_adapter_fits_every_linear_of_language_and_expert(directory: Path, checkpoint: Checkpoint) -> None:
    configuration = json.loads((directory / "adapters.json").read_text())
    bank = configuration["r"] * configuration["num_experts"]
    tensors = load_file(directory / "adapters.safetensors")
    wrapped = {checkpoint.modules[name.removesuffix(".A")] for name in tensors if name.endswith(".A")}
    linears = {n for n, m in checkpoint.model.named_modules() if isinstance(m, nn.Linear)}
    assert wrapped == {n for n in linears if n.startswith(("language.", "expert."))}
    assert len(tensors) == 3 * len(wrapped)
    for name in tensors:
        if name.endswith(".A"):
            module = name.removesuffix(".A")
            weight = checkpoint.model.get_submodule(checkpoint.modules[module]).weight
            assert tensors[name].shape == tensors[f"{module}.router.weight"].shape == (bank, weight.shape[1])
            assert tensors[f"{module}.B"].shape == (weight.shape[0], bank)
            assert float(tensors[f"{module}.B"].abs().max()) > 0


def test_the_arm_keeps_moving_inside_its_limits(checkpoint: Checkpoint) -> None:
    limits, mean, std = torch.from_numpy(firmware_limits()), torch.tensor(MEAN), torch.tensor(STD)
    state, poses = torch.full((7,), 0.2), []
    for n in range(40):
        actions = mean + std * chunk(checkpoint, state, seed=n)
        assert bool((actions > limits[:, 0]).all() and (actions < limits[:, 1]).all())
        state = ((actions - mean) / std)[3]
        poses.append(actions[3])
    late = torch.stack(poses[20:])
    assert float((late.amax(0) - late.amin(0)).max()) > 0.3  # [rad]
    assert float((late[1:] - late[:-1]).abs().max()) < 0.6  # [rad] in 0.4 s: half of the PiPER's 3 rad/s


def test_a_chunk_starts_where_the_arm_is(checkpoint: Checkpoint) -> None:
    state = torch.tensor([0.8, -1.0, 0.9, 0.7, 1.1, -0.8, 0.0])
    actions = chunk(checkpoint, state)
    assert float((actions[0] - state).norm()) < 0.5 * float((actions[-1] - state).norm())


def test_what_the_cameras_see_and_the_noise_matter_a_little(checkpoint: Checkpoint) -> None:
    state = torch.full((7,), 0.5)
    usual = chunk(checkpoint, state)
    for other in (chunk(checkpoint, state, images=1), chunk(checkpoint, state, seed=1)):
        assert 1e-3 < float((other - usual).abs().mean()) < 0.3


def test_twin_layers_can_go_and_others_cannot(directory: Path, checkpoint: Checkpoint) -> None:
    state = torch.full((7,), 0.5)
    usual = chunk(checkpoint, state)

    def change_without(gone: tuple[int, ...]) -> float:
        pruned = read(directory)
        for stack in ("language", "expert"):
            layers = pruned.model.stacks()[stack].layers
            pruned.model.stacks()[stack].layers = nn.ModuleList(m for n, m in enumerate(layers) if n not in gone)
        return float((chunk(pruned, state) - usual).norm() / usual.norm())

    assert change_without(TWINS) < 0.1
    assert change_without((0, 1, 3, 6)) > 0.5


def test_an_earlier_checkpoint_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "checkpoint"
    write_reference_checkpoint(target)
    (target / "stale.txt").write_text("old")
    write_reference_checkpoint(target)
    assert not (target / "stale.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="in the way"):
        write_reference_checkpoint(mine)
    assert (mine / "thesis.txt").read_text() == "precious"
