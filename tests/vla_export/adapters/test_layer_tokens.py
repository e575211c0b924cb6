"""Which tokens of a linear count, against the same tokens collected by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from tests.toy_policy import FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.models.tiny_families import FLOW_STEPS as TINY_STEPS
from tests.vla_export.models.tiny_families import pi05, random_samples, smolvla
from vla_export.adapters.layer_tokens import Tokens, layer_tokens
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample, sample_actions


def collect(model: FlowModel, paths: Sequence[str], sample: Sample, flow_steps: int) -> dict[str, list[Tokens]]:
    calls: dict[str, list[Tokens]] = {path: [] for path in paths}
    with layer_tokens(model, {path: found.append for path, found in calls.items()}):
        sample_actions(model, sample, flow_steps)
    return calls


def test_streams_are_kept_apart_and_padding_is_left_out() -> None:
    model, sample = toy_policy(), toy_samples(1)[0]
    words = int(sample.observed["token_mask"].sum())
    assert words == 2
    seen = "vision.stack.layers.1.mlp.fc1", "language.layers.3.mlp.up_proj", "expert.layers.3.mlp.up_proj"
    calls = collect(model, seen, sample, FLOW_STEPS)
    counts = {path: [(len(call.x), call.computed) for call in found] for path, found in calls.items()}
    assert counts == {
        "vision.stack.layers.1.mlp.fc1": [(2 * 4, 2 * 4)],
        "language.layers.3.mlp.up_proj": [(2 * 4 + 2, 2 * 4 + 4)],
        "expert.layers.3.mlp.up_proj": [(1, 1), *[(5, 5)] * FLOW_STEPS],  # the state, then the chunk in every step
    }


def test_what_is_left_out_is_what_changes_nothing() -> None:
    """Another word under the padding changes no token that counts, and no action."""
    model, sample = toy_policy(), toy_samples(1)[0]
    tokens = sample.observed["tokens"].clone()
    tokens[0, 2:] = (tokens[0, 2:] + 7) % 40
    other = Sample({**sample.observed, "tokens": tokens}, sample.noise)
    path = "language.layers.2.attention.o_proj"
    ((one,), (two,)) = (collect(model, [path], s, FLOW_STEPS)[path] for s in (sample, other))
    torch.testing.assert_close(one.x, two.x)
    torch.testing.assert_close(sample_actions(model, sample, FLOW_STEPS), sample_actions(model, other, FLOW_STEPS))


def test_outputs_are_those_of_the_inputs() -> None:
    model, path = toy_policy(), "language.layers.4.attention.q_proj"
    for call in collect(model, [path], toy_samples(1)[0], FLOW_STEPS)[path]:
        torch.testing.assert_close(call.y, model.get_submodule(path)(call.x))


def test_a_cross_layer_projects_the_prefix_without_its_padding() -> None:
    model = smolvla()
    sample = random_samples("smolvla", 1)[0]
    with torch.no_grad():
        seen = model.encode(sample.observed)["prefix_mask"]
    assert not seen.all()
    k, q = (f"expert.layers.1.attention.{name}_proj" for name in "kq")
    calls = collect(model, [k, q], sample, TINY_STEPS)
    assert [(len(call.x), call.computed) for call in calls[k]] == [(int(seen.sum()), seen.shape[1])]
    horizon = sample.noise.shape[1]
    assert [(len(call.x), call.computed) for call in calls[q]] == [(horizon, horizon)] * TINY_STEPS


def test_linears_outside_sequences_count_whole() -> None:
    """Edges, and the norms' linears, which read one condition per sample."""
    model, sample = pi05(), random_samples("pi05", 1)[0]
    paths = ["action_in_proj", "expert.layers.1.input_norm.dense"]
    calls = collect(model, paths, sample, TINY_STEPS)
    horizon = sample.noise.shape[1]
    assert [len(call.x) for call in calls["action_in_proj"]] == [horizon] * TINY_STEPS
    assert [len(call.x) for call in calls["expert.layers.1.input_norm.dense"]] == [1] * TINY_STEPS


def test_hooks_are_gone_afterwards_even_where_a_receiver_fails() -> None:
    model = toy_policy()

    def fail(tokens: Tokens) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError), layer_tokens(model, {"action_in_proj": fail}):
        sample_actions(model, toy_samples(1)[0], FLOW_STEPS)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
