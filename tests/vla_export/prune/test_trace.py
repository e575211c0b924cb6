"""Similarities from hooks against hidden states collected by running the stacks by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.models.attention import additive, rotation
from vla_export.models.pi0 import Pi0
from vla_export.prune.cka import linear_cka
from vla_export.prune.trace import layer_similarities
from vla_export.sample import Sample
from vla_runtime.errors import WorkFailed


def language_states(model: Pi0, sample: Sample) -> list[Tensor]:
    """The language stack alone, over the tokens that are there: without padding no mask is needed."""
    x = model.embed(sample.observed["images"], sample.observed["tokens"][:, sample.observed["token_mask"][0]])
    rope = rotation(torch.arange(x.shape[1])[None], model.config.language.head_dim)
    states = [x[0]]
    for layer in model.language:
        x, _ = layer(x, rope)
        states.append(x[0])
    return states


def expert_states(model: Pi0, sample: Sample) -> list[list[Tensor]]:
    """The expert over the chunk, once for each flow step."""
    prefix = model.encode(sample.observed)
    positions = prefix["prefix_mask"].int().sum(1, keepdim=True) + torch.arange(5)
    rope = rotation(positions, model.config.expert.head_dim)
    visible = additive(torch.cat((prefix["prefix_mask"], torch.ones(1, 5, dtype=torch.bool)), dim=1))
    chunk, steps = sample.noise, []
    for step in range(FLOW_STEPS):
        time = torch.tensor([1 - step / FLOW_STEPS])
        x = model.embed_actions(chunk, time)
        states = [x[0]]
        for n, layer in enumerate(model.expert):
            x, _ = layer(x, rope, visible, (prefix[f"key_{n:02d}"], prefix[f"value_{n:02d}"]))
            states.append(x[0])
        steps.append(states)
        chunk = model.denoise(chunk, time, time - 1 / FLOW_STEPS, prefix)
    return steps


def test_language_counts_while_encoding_and_leaves_padding_out() -> None:
    model, samples = toy_policy(), toy_samples(3)
    matrix = layer_similarities(model, ("language", "expert"), samples, FLOW_STEPS)["language"]
    expected = torch.stack([linear_cka(language_states(model, sample)) for sample in samples]).mean(0)
    assert matrix.shape == (DEPTH + 1, DEPTH + 1)
    torch.testing.assert_close(matrix, expected, rtol=1e-5, atol=1e-5)


def test_expert_counts_in_the_flow_steps_and_not_for_the_state() -> None:
    model, samples = toy_policy(), toy_samples(2)
    matrix = layer_similarities(model, ("language", "expert"), samples, FLOW_STEPS)["expert"]
    steps = [states for sample in samples for states in expert_states(model, sample)]
    expected = torch.stack([linear_cka(states) for states in steps]).mean(0)
    torch.testing.assert_close(matrix, expected, rtol=1e-4, atol=1e-5)


def test_cameras_in_one_batch_are_sequences_of_their_own() -> None:
    model, samples = toy_policy(), toy_samples(1)
    together = layer_similarities(model, ("vision",), samples, FLOW_STEPS)["vision"]
    (sample,) = samples
    apart = [
        layer_similarities(
            model,
            ("vision",),
            [Sample({**sample.observed, "images": image[None]}, sample.noise)],
            FLOW_STEPS,
        )["vision"]
        for image in sample.observed["images"]
    ]
    torch.testing.assert_close(together, torch.stack(apart).mean(0), rtol=1e-5, atol=1e-6)


def test_hooks_are_gone_afterwards() -> None:
    model = toy_policy()
    layer_similarities(model, ("language", "expert"), toy_samples(1), FLOW_STEPS)
    assert not any(module._forward_hooks for module in model.modules())


def test_without_samples_there_is_nothing_to_compare() -> None:
    with pytest.raises(WorkFailed, match="stack language: never ran"):
        layer_similarities(toy_policy(), ("language",), [], FLOW_STEPS)
