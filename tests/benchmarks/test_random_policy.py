"""Random policies are stored as exports store them, and nothing in them grows or dies out."""

from __future__ import annotations

import pytest
import torch

from benchmarks.prune import QUICK, Subject
from benchmarks.random_policy import FLOW_STEPS, WORDS
from vla_export.graph.precision import half_parameters
from vla_export.sample import sample_actions


@pytest.fixture(params=QUICK)
def subject(request: pytest.FixtureRequest) -> Subject:
    return QUICK[request.param]


def test_half_is_what_fp16_graphs_hold(subject: Subject) -> None:
    model = subject.policy()
    halved = {name for name, parameter in model.named_parameters() if parameter.dtype is torch.float16}
    assert halved == (half_parameters(model) if subject.half else set())
    assert {parameter.dtype for parameter in model.parameters()} <= {torch.float16, torch.float32}


def test_the_same_weights_and_observations_every_time(subject: Subject) -> None:
    one, other = subject.policy().state_dict(), subject.policy().state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    first, second = subject.samples(2)
    assert torch.equal(first.noise, subject.samples(1)[0].noise)
    assert all(torch.equal(tensor, subject.samples(1)[0].observed[name]) for name, tensor in first.observed.items())
    assert not torch.equal(first.observed["images"], second.observed["images"])


def test_norms_are_near_the_identity(subject: Subject) -> None:
    model = subject.policy()
    x = torch.randn(1, 100, model.stacks()["expert"].width, generator=torch.Generator().manual_seed(0))
    norm = model.stacks()["expert"].norm
    assert norm is not None
    assert norm(x).std().item() == pytest.approx(1, abs=0.05)


def test_actions_are_finite_and_depend_on_what_is_seen(subject: Subject) -> None:
    model = subject.policy()
    first, second = subject.samples(2)
    actions = sample_actions(model, first, FLOW_STEPS)
    assert actions.isfinite().all()
    assert 0.1 < actions.std() < 10
    blind = type(first)(second.observed, first.noise)
    assert not torch.allclose(actions, sample_actions(model, blind, FLOW_STEPS), rtol=1e-3)


def test_an_observation_has_words_and_padding(subject: Subject) -> None:
    seen = subject.samples(1)[0].observed["token_mask"]
    assert seen.shape == (1, WORDS)
    assert 0 < int(seen.sum()) < WORDS
