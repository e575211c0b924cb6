"""Training an adapter: the policy beneath stays, the release's files come out, and an interruption changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reference.architecture import untrained
from reference.checkpoint import Statistics, Words, write_policy
from reference.demonstration_data import draw, read_frames
from reference.training import Budget, Plan
from reference.vocabulary import LIMIT, word_tokenizer
from results import adapt as module
from results.adapt import METHODS, AdapterLearner, Method, adapt, adapter, main
from results.adapters.lora import LoRASettings
from results.adapters.lora_sp import LoRASPSettings
from results.adapters.vla_gse import VLAGSESettings
from results.flow_policy import flow_learner
from tests.reference.toy_demonstrations import SIZES, write_shards
from vla_export.adapters.reading import read_adapter
from vla_export.checkpoints.reading import read

STEPS = 4
STATISTICS = Statistics(torch.zeros(7), torch.ones(7), torch.linspace(-1, 1, 7), torch.full((7,), 2.0))
TOY: dict[str, Any] = {
    "lora_sp": LoRASPSettings(r=2, alpha=2, num_experts=2),
    "vla_gse": VLAGSESettings(r=6, num_experts=4),
    "lora": LoRASettings(rank=3, alpha=3),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("policy")
    model = untrained(SIZES, torch.Generator().manual_seed(0))
    write_policy(directory, model, STATISTICS, Words(word_tokenizer(), LIMIT), flow_steps=2)
    return directory


def method(name: str) -> Method:
    return replace(METHODS[name], settings=TOY[name])


def plan(out: Path) -> Plan:
    return Plan(out, Budget(STEPS, None), batch=8, seed=0, save_every=0.0, rate=1e-2)


def test_a_policys_statistics_are_those_it_was_trained_with(policy: Path) -> None:
    learner = flow_learner(read(policy))
    for name, value in vars(STATISTICS).items():
        torch.testing.assert_close(getattr(learner.statistics, name), value)


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_adapter_is_written_with_its_log_and_read_back(
    name: str, data: list[Path], policy: Path, tmp_path: Path
) -> None:
    written = adapt(method(name), data, policy, plan(tmp_path / "run"), tmp_path / "release")
    assert len(read_adapter(written).updates) > 0
    entries = [json.loads(line) for line in (tmp_path / "release" / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == STEPS
    assert {"own_rad", "obeyed"} <= entries[-1].keys()


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_has_the_methods_own_and_says_how_many_directions_are_used(
    name: str, data: list[Path], policy: Path
) -> None:
    learner = AdapterLearner(flow_learner(read(policy)), method(name), torch.Generator().manual_seed(0))
    frames, _ = read_frames(data)
    found = learner.adaptation(draw(frames, 4, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1))
    torch.testing.assert_close(found["total"], found["flow"] + found["own"])
    assert (float(found["own"].detach()) > 0) == (name != "lora")
    for stack in ("language", "expert"):
        assert 0 < float(found[f"active_{stack}"]) <= 6
    assert learner.trained > 0
    assert (learner.trained_in_head > 0) == (name == "vla_gse")


def test_an_interrupted_training_ends_as_one_that_was_not(
    data: list[Path], policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = adapt(method("lora_sp"), data, policy, plan(tmp_path / "whole"), tmp_path / "first")
    losses, calls = AdapterLearner.adaptation, iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == STEPS // 2:
            raise KeyboardInterrupt
        return losses(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(AdapterLearner, "adaptation", interrupted)
        with pytest.raises(KeyboardInterrupt):
            adapt(method("lora_sp"), data, policy, plan(tmp_path / "run"), tmp_path / "second")
    again = adapt(method("lora_sp"), data, policy, plan(tmp_path / "run"), tmp_path / "second")
    first, second = load_file(whole), load_file(again)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_what_is_trained_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(name: str, steps: int, rate: float, release: Path) -> Path:
        trained.append(name)
        release.mkdir(parents=True)
        (release / "log.jsonl").touch()
        return release

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    monkeypatch.setattr(module, "_train", train)
    first = adapter("lora")
    assert adapter("lora") == first == tmp_path / "out" / "adapters" / "lora"
    assert trained == ["lora"]


def test_an_unknown_method_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dora"]) == 2
    assert "method 'dora' is unknown: choose from lora_sp, vla_gse, lora" in capsys.readouterr().err
