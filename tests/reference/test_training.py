"""Both stages at toy scale: they end, go on where they stopped, and leave what the runtime runs."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reference.architecture import untrained
from reference.checkpoint import Statistics
from reference.demonstration_data import ask, read_frames
from reference.learner import FlowLearner, Learner
from reference.parallel import run_in_processes
from reference.train_policy import train_policy
from reference.train_vlm import train_vlm
from reference.training import Budget, Plan, train
from reference.vlm_checkpoint import load_vlm
from tests.reference.toy_demonstrations import SIZES, write_shards
from vla_export.checkpoints.reading import read
from vla_export.pipeline import export
from vla_export.progress import StageProgress
from vla_export.request import parse_request
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.sim.episode import instruction
from vla_runtime.sim.scene import CUBES

STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def vlm(data: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_vlm(data, plan(tmp_path_factory.mktemp("vlm") / "run"), SIZES)


@pytest.fixture(scope="module")
def policy(data: list[Path], vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_policy(data, vlm, plan(tmp_path_factory.mktemp("policy") / "run"), SIZES)


def plan(out: Path, **changes: Any) -> Plan:
    return replace(Plan(out, Budget(STEPS, None), batch=8, seed=0, save_every=0.0), **changes)


def weights(checkpoint: Path) -> bytes:
    return (checkpoint / "model.safetensors").read_bytes()


def logged_steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_first_stage_leaves_a_base_vlm_without_an_expert(vlm: Path) -> None:
    names = set(load_file(vlm / "model.safetensors"))
    assert {name.split(".")[0] for name in names} == {"model", "grounding_head"}
    assert not any("expert" in name or "action" in name for name in names)
    learner = Learner(untrained(SIZES, torch.Generator().manual_seed(1)), statistics())
    load_vlm(vlm, learner)
    embedding = load_file(vlm / "model.safetensors")["model.language_model.embed_tokens.weight"]
    assert torch.equal(learner.model.embedding.weight, embedding)


def test_the_second_stage_starts_from_the_first(data: list[Path], vlm: Path, tmp_path: Path) -> None:
    one_step = train_policy(data, vlm, plan(tmp_path, seed=9, budget=Budget(1, None)), SIZES)
    theirs = load_file(vlm / "model.safetensors")["model.multi_modal_projector.linear.weight"]
    torch.testing.assert_close(read(one_step).model.get_parameter("projector.weight"), theirs, rtol=0, atol=1e-4)


def test_logs_and_curves_are_left(policy: Path) -> None:
    entries = [json.loads(line) for line in (policy.parent / "log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == STEPS
    assert {"own_rad", "other_rad", "obeyed", "first_rad", "obeyed_first", "ground_cm"} <= entries[-1].keys()
    assert (policy.parent / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("stage", ["grounding", "policy"])
def test_an_interrupted_run_ends_as_one_that_was_not(
    stage: str, data: list[Path], vlm: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = partial(train_vlm, data) if stage == "grounding" else partial(train_policy, data, vlm)
    losses, calls = getattr(Learner, stage), iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == STEPS // 2:
            raise KeyboardInterrupt
        return losses(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, stage, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(plan(tmp_path), SIZES)
    uninterrupted = vlm if stage == "grounding" else policy
    assert weights(run(plan(tmp_path), SIZES)) == weights(uninterrupted)
    assert logged_steps(tmp_path) == logged_steps(uninterrupted.parent)


def test_what_requires_no_gradient_stays_and_the_rest_is_averaged(data: list[Path], tmp_path: Path) -> None:
    frames, _ = read_frames(data)
    learner = FlowLearner(untrained(SIZES, torch.Generator().manual_seed(0)), frames.statistics())
    learner.model.vision.requires_grad_(False)
    before = {name: tensor.detach().clone() for name, tensor in learner.named_parameters()}
    average = train(learner, learner.finetuning, frames, plan(tmp_path), lambda _: {"nothing": 0.0}, lambda _: None)
    moved = {name: tensor for name, tensor in learner.named_parameters() if not torch.equal(tensor, before[name])}
    assert moved
    assert not any(name.startswith("model.vision.") for name in moved)
    for name, slow in average.named_parameters():
        fast, start = learner.get_parameter(name), before[name]
        way, its = float((fast.detach() - start).norm()), float((slow - start).norm())
        assert its <= 0.1 * way, f"{name}: of {STEPS} steps at 0.995"


def test_an_average_that_keeps_nothing_is_what_was_learned_last(data: list[Path], tmp_path: Path) -> None:
    frames, _ = read_frames(data)
    learner = FlowLearner(untrained(SIZES, torch.Generator().manual_seed(0)), frames.statistics())
    asked = plan(tmp_path, averaging=0.0)
    average = train(learner, learner.finetuning, frames, asked, lambda _: {"nothing": 0.0}, lambda _: None)
    assert all(torch.equal(slow, fast) for slow, fast in zip(average.parameters(), learner.parameters(), strict=True))


def test_a_run_is_not_taken_up_with_another_rate(data: list[Path], vlm: Path) -> None:
    with pytest.raises(BadInput, match="rate 0.001"):
        train_vlm(data, plan(vlm.parent, rate=1e-2), SIZES)


def test_another_seed_learns_something_else(data: list[Path], vlm: Path, tmp_path: Path) -> None:
    assert weights(train_vlm(data, plan(tmp_path, seed=1), SIZES)) != weights(vlm)


def test_a_run_is_not_taken_up_with_another_seed(data: list[Path], vlm: Path) -> None:
    with pytest.raises(BadInput, match="--seed 0"):
        train_vlm(data, plan(vlm.parent, seed=1), SIZES)


def test_two_processes_share_one_run(data: list[Path], vlm: Path, tmp_path: Path) -> None:
    run_in_processes(2, partial(train_vlm, data, plan(tmp_path), SIZES))
    assert logged_steps(tmp_path) == [*range(1, STEPS + 1), STEPS]
    load_vlm(tmp_path / "checkpoint", Learner(untrained(SIZES, torch.Generator()), statistics()))
    assert weights(tmp_path / "checkpoint") != weights(vlm)


def test_the_runtime_does_what_the_trained_model_does(
    data: list[Path], policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    request = parse_request(policy, output=tmp_path / "bundle")
    bundle = export(request, StageProgress(quiet=True)).bundle
    frames, _ = read_frames(data)
    frame = frames.choose(torch.tensor([len(frames) - 1]))
    runtime = Policy(bundle, OnnxRuntimeEngine(bundle, threads=1))
    cube, goal = int(frame.named), int(frame.goal)
    runtime.set_task(instruction("place", CUBES[cube], CUBES[goal]))
    images = dict(zip(("side", "wrist"), frame.images[0].numpy(), strict=True))
    noise = torch.randn(1, 16, 7, generator=torch.Generator().manual_seed(0))
    found = runtime.infer(Observation(images, frame.state[0].numpy().astype(np.float64)), noise.numpy())

    learner = Learner(read(policy).model, frames.statistics())  # type: ignore[arg-type]  # it is a Pi0
    batch = ask(frame, frame.named)
    with torch.no_grad():
        reading = learner.model.read(batch.images, batch.tokens, batch.token_mask)
        prefix = learner.model.add_state(reading, learner.normal_state(batch.state))
        expected = learner.chunk(learner.model.sample(prefix, noise, bundle.manifest.flow_steps))
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda t: t.pop("grounding_head.linear.bias"), "grounding_head.linear.bias"),
        (lambda t: t.update({"surprise": torch.zeros(1)}), "surprise"),
        (lambda t: t.update({"grounding_head.linear.bias": torch.zeros(4)}), r"\[4\]"),
    ],
)
def test_a_vlm_that_does_not_fit_is_refused_by_name(vlm: Path, tmp_path: Path, spoil: Any, named: str) -> None:
    tensors = load_file(vlm / "model.safetensors")
    spoil(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((vlm / "config.json").read_bytes())
    learner = Learner(untrained(SIZES, torch.Generator()), statistics())
    with pytest.raises(BadInput, match=named):
        load_vlm(tmp_path, learner)


def test_a_vlm_of_other_sizes_is_refused(vlm: Path) -> None:
    larger = replace(SIZES, language=replace(SIZES.language, mlp=32))
    with pytest.raises(BadInput, match="language_config"):
        load_vlm(vlm, Learner(untrained(larger, torch.Generator()), statistics()))


def statistics() -> Statistics:
    return Statistics(*(torch.ones(7),) * 4)
