"""What training writes is what the readers apply: the written files compute the trained module's own forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from results.adapters import lora, lora_sp, vla_gse
from results.adapters.release_files import write
from tests.results.toy_adapters import LINEARS, STATISTICS, toy, train, velocity, write_toy
from vla_export.adapters.action_statistics import check_action_statistics
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.reading import find_adapter, read_adapter
from vla_export.checkpoints.reading import read
from vla_export.models.pi0 import Pi0
from vla_runtime.errors import BadInput

STEPS = 5
WEIGHTS = {".safetensors", ".pt"}


@dataclass(frozen=True)
class Method:
    wrap: Callable[[Pi0], list[str]]
    extra_loss: Callable[[Pi0], Tensor]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


METHODS = {
    "lora": Method(lambda model: lora.wrap(model, lora.LoRASettings(rank=3, alpha=5), generator()), lora.extra_loss),
    "lora_sp": Method(
        lambda model: lora_sp.wrap(model, lora_sp.LoRASPSettings(r=2, alpha=3, num_experts=3), generator()),
        lora_sp.extra_loss,
    ),
    "vla_gse": Method(
        lambda model: vla_gse.wrap(model, vla_gse.VLAGSESettings(r=7, num_experts=5), generator()), vla_gse.extra_loss
    ),
    "vla_gse, partly": Method(
        lambda model: vla_gse.wrap(
            model, vla_gse.VLAGSESettings(r=9, num_experts=6, num_generalized_experts=2, top_k=3), generator()
        ),
        vla_gse.extra_loss,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_files_compute_what_was_trained(name: str, tmp_path: Path) -> None:
    method, model = METHODS[name], toy()
    before = velocity(model)
    directory = write_toy(tmp_path / "checkpoint", model)
    wrapped = method.wrap(model)
    train(model, method.extra_loss, STEPS)
    model.eval()

    adapter = read_adapter(write(tmp_path / "adapter", model, STATISTICS, STEPS))
    checkpoint = read(directory, tensors=adapter.policy)
    applied = apply_exact(checkpoint.model, adapter, checkpoint.modules)
    assert sorted(layer.path for layer in applied) == sorted(wrapped)
    assert isinstance(checkpoint.model, Pi0)
    trained = velocity(model)
    torch.testing.assert_close(velocity(checkpoint.model), trained, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(trained, before, atol=1e-2)


@pytest.mark.parametrize("name", ["lora", "lora_sp"])
def test_beside_its_checkpoint_the_adapter_is_found(name: str, tmp_path: Path) -> None:
    model = toy()
    directory = write_toy(tmp_path / "checkpoint", model)
    METHODS[name].wrap(model)
    train(model, METHODS[name].extra_loss, 1)
    assert find_adapter(directory) is None
    assert write(directory, model, STATISTICS, 1) == find_adapter(directory)
    assert len(read_adapter(directory).updates) == LINEARS


def test_the_statistics_of_a_vla_gse_run_are_those_its_policy_commands_with(tmp_path: Path) -> None:
    model = toy()
    action = read(write_toy(tmp_path / "checkpoint", model)).interface.action
    METHODS["vla_gse"].wrap(model)
    file = write(tmp_path / "run", model, STATISTICS, 40)
    assert file == tmp_path / "run" / "checkpoints" / "steps_40_pytorch_model.pt"
    statistics = read_adapter(file).statistics
    assert statistics == tmp_path / "run" / "dataset_statistics.json"
    check_action_statistics(statistics, action)


@pytest.mark.parametrize("name", METHODS)
def test_later_training_replaces_the_files_of_earlier(name: str, tmp_path: Path) -> None:
    model = toy()
    METHODS[name].wrap(model)
    contents: list[dict[Path, bytes]] = []
    for steps in (1, 0, 1):
        train(model, METHODS[name].extra_loss, steps)
        write(tmp_path / "adapter", model, STATISTICS, STEPS)
        contents.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    first, same, later = contents
    assert first == same
    assert {path for path in first if first[path] != later[path]} == {path for path in first if path.suffix in WEIGHTS}
    assert first.keys() == later.keys()


def test_a_policy_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="carries no adapter"):
        write(tmp_path / "adapter", toy(), STATISTICS, 1)
