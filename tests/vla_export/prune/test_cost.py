"""FLOPs against the formulas of the literature, by hand."""

from __future__ import annotations

import pytest
import torch

from tests.toy_policy import CONFIG, DEPTH, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import route
from tests.vla_export.models.tiny_families import random_samples, smolvla
from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import Pi0
from vla_export.prune.cost import cost, total
from vla_export.prune.surgery import remove_layers
from vla_export.prune.width import keep_units


def projections(size: StackSize, tokens: int) -> int:
    return 2 * tokens * size.width * size.head_dim * 2 * (size.heads + size.kv_heads)


def attended(size: StackSize, tokens: int, seen: int) -> int:
    return 2 * 2 * tokens * seen * size.heads * size.head_dim


def gated(size: StackSize, tokens: int) -> int:
    return 2 * 3 * tokens * size.width * size.mlp


def test_every_product_is_counted_once_and_what_nothing_reads_is_not() -> None:
    model, (sample,) = toy_policy(), toy_samples(1)
    found = cost(model, sample, FLOW_STEPS)
    language, expert, vision = CONFIG.language, CONFIG.expert, CONFIG.vision
    words, horizon = 2 * 4 + 4, CONFIG.horizon  # two cameras of four patches, and four words
    # The last layer gives its keys and values alone.
    whole, keys = DEPTH - 1, 2 * words * language.width * language.head_dim * 2 * language.kv_heads
    assert found["language.mlp"].flops_encode == whole * gated(language, words)
    assert found["language.attention"].flops_encode == keys + whole * (
        projections(language, words) + attended(language, words, words)
    )
    assert found["language.mlp"].flops_step == found["vision.mlp"].flops_step == 0
    seen = words + 1 + horizon
    assert found["expert.mlp"].flops_step == DEPTH * gated(expert, horizon)
    assert found["expert.attention"].flops_step == DEPTH * (
        projections(expert, horizon) + attended(expert, horizon, seen)
    )
    assert found["vision.mlp"].flops_encode == 2 * 2 * (2 * 2 * 4 * vision.width * vision.mlp)
    assert found["vision"].flops_encode == 2 * 2 * 4 * vision.width * 3 * 16
    assert found["projector"].flops_encode == 2 * 8 * vision.width * language.width
    assert found["action_in_proj"].flops_step == 2 * horizon * CONFIG.action_width * expert.width
    for part in found.values():
        assert part.flops_chunk == part.flops_encode + FLOW_STEPS * part.flops_step


def test_every_parameter_is_in_one_group() -> None:
    model, (sample,) = smolvla(), random_samples("smolvla", 1)
    found = cost(model, sample, 10)
    everything = total(found.values())
    assert everything.parameters == sum(p.numel() for p in model.parameters())
    assert everything.bytes == 4 * everything.parameters
    assert set(found) >= {f"{s}.{p}" for s in ("vision", "language", "expert") for p in ("attention", "mlp", "norms")}
    stack = model.stacks()["expert"]
    assert found["expert.mlp"].parameters == sum(p.numel() for layer in stack for p in layer.mlp.parameters())


def test_half_precision_halves_bytes_and_nothing_else() -> None:
    (sample,) = toy_samples(1)
    whole, halved = (cost(model, sample, 3) for model in (toy_policy(), toy_policy().half()))
    for name, part in whole.items():
        assert halved[name] == part.model_copy(update={"bytes": part.bytes // 2})


def test_nothing_is_computed_and_nothing_changed() -> None:
    with torch.device("meta"):
        empty = Pi0(CONFIG)
    model, (sample,) = toy_policy(), toy_samples(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert cost(empty, sample, 3) == cost(model, sample, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("module", ["language.mlp", "language.heads", "vision.mlp", "vision.heads"])
def test_what_is_removed_costs_less_where_it_was(module: str) -> None:
    model, (sample,) = smolvla(), random_samples("smolvla", 1)
    before = cost(model, sample, 10)
    keep_units(model, module, [[0, 1]] * len(model.stacks()[module.split(".")[0]]))
    after = cost(model, sample, 10)
    group = module.replace("heads", "attention")
    for name, part in before.items():
        if name == group:
            assert after[name].parameters < part.parameters
            assert after[name].flops_encode < part.flops_encode
        else:
            assert after[name] == part


def test_layers_and_branches_count() -> None:
    model, (sample,) = toy_policy(), toy_samples(1)
    before = cost(model, sample, 3)
    route(model, kinds=("layers.0.mlp.up_proj",))
    routed = cost(model, sample, 3)
    assert routed["expert.mlp"].flops_step > before["expert.mlp"].flops_step
    assert routed["expert.mlp"].parameters > before["expert.mlp"].parameters
    remove_layers(model, {"language": {1}, "expert": {1}})
    less = before["expert.mlp"].flops_step // DEPTH
    assert cost(model, sample, 3)["expert.mlp"].flops_step == routed["expert.mlp"].flops_step - less
