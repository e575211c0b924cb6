from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from reference import learner as module
from reference.architecture import untrained
from reference.demonstration_data import Batch, draw, read_frames
from reference.grounding import SCALE, grounding_loss, positions
from reference.learner import DRAWS, GROUNDING_WEIGHT, Learner, flow_loss
from tests.reference.toy_demonstrations import SIZES, write_shards


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    frames, _ = read_frames(write_shards(tmp_path_factory.mktemp("data")))
    return draw(frames, 6, torch.Generator().manual_seed(0))


@pytest.fixture
def learner(tmp_path: Path) -> Learner:
    frames, _ = read_frames(write_shards(tmp_path))
    model = untrained(SIZES, torch.Generator().manual_seed(0))
    for parameter in model.parameters():  # so that no layer is too near the identity to show
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return Learner(model, frames.statistics())


@torch.no_grad()
def test_what_is_trained_is_what_inference_computes(learner: Learner, batch: Batch) -> None:
    """Every sample of a batch with several draws, against the same sample alone on encode and velocity."""
    model, state = learner.model, learner.normal_state(batch.state)
    reading = model.read(batch.images, batch.tokens, batch.token_mask)
    prefix = {n: t.repeat_interleave(DRAWS, 0) for n, t in model.add_state(reading, state).items()}
    chunks = torch.randn(6 * DRAWS, 16, 7, generator=torch.Generator().manual_seed(2))
    times = torch.rand(6 * DRAWS, generator=torch.Generator().manual_seed(3))
    together = model.velocity(chunks, times, prefix)
    for n in range(6):
        one = slice(n, n + 1)
        reading = model.read(batch.images[2 * n : 2 * n + 2], batch.tokens[one], batch.token_mask[one])
        alone = model.add_state(reading, state[one])
        for one_draw in range(n * DRAWS, (n + 1) * DRAWS):
            velocity = model.velocity(chunks[one_draw][None], times[one_draw][None], alone)
            torch.testing.assert_close(velocity[0], together[one_draw], rtol=1e-4, atol=1e-5)


def test_a_perfect_velocity_has_no_loss(learner: Learner, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    target = learner.normal_chunk(batch.chunk)
    seen = []

    def perfect(chunk: torch.Tensor, time: torch.Tensor, prefix: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(time)
        clean = target.repeat_interleave(DRAWS, 0)
        noise = (chunk - (1 - time[:, None, None]) * clean) / time[:, None, None]
        # Following the velocity from here to time 0 must end at the chunk.
        torch.testing.assert_close(chunk - time[:, None, None] * (noise - clean), clean, rtol=1e-3, atol=1e-3)
        return noise - clean

    monkeypatch.setattr(learner.model, "velocity", perfect)
    assert float(flow_loss(learner.model, {}, target, torch.Generator().manual_seed(0))) < 1e-4
    assert bool((seen[0] > 0).all() and (seen[0] <= 1).all())


def test_flow_times_are_betas(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    times = []

    def still(chunk: torch.Tensor, time: torch.Tensor, prefix: object) -> torch.Tensor:
        times.append(time)
        return torch.zeros_like(chunk)

    monkeypatch.setattr(learner.model, "velocity", still)
    flow_loss(learner.model, {}, torch.zeros(4000, 1, 1), torch.Generator().manual_seed(0))
    beta = torch.distributions.Beta(torch.tensor(1.5), torch.tensor(1.0))
    scaled = (times[0] - module.TIME_OFFSET) / module.TIME_SCALE
    assert abs(float(scaled.mean() - beta.mean)) < 0.01
    assert abs(float(scaled.var() - beta.variance)) < 0.01


def test_grounding_reads_the_named_cubes_only(learner: Learner, batch: Batch) -> None:
    reading = learner.model.read(batch.images, batch.tokens, batch.token_mask)
    true, found = positions(learner.head, reading, batch)
    assert true.shape == found.shape
    shifted = dataclasses.replace(batch, cubes=batch.cubes + SCALE)
    moved, _ = positions(learner.head, reading, shifted)
    torch.testing.assert_close(moved, true + SCALE)
    grounding_loss(learner.head, reading, batch).backward()
    assert learner.model.vision.patch_embedding.weight.grad is not None
    assert learner.model.expert.layers[0].attention.q_proj.weight.grad is None


def test_a_finished_policy_learns_the_second_stages_flow(learner: Learner, batch: Batch) -> None:
    of_stage = learner.policy(batch, torch.Generator().manual_seed(0))
    further = learner.finetuning(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(further["total"], of_stage["flow"])


def test_the_second_stage_weighs_grounding_in(learner: Learner, batch: Batch) -> None:
    found = learner.policy(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found["total"], found["flow"] + GROUNDING_WEIGHT * found["grounding"])
    found["total"].backward()
    # The last language layer's output is read by the head alone, its keys by the expert: both reach it.
    assert all(p.grad is not None for p in learner.parameters())
