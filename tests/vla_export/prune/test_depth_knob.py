"""Layers in the order in which they go."""

from __future__ import annotations

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.models.blocks import GatedMLP, MemoryLayer
from vla_export.prune.depth_knob import DepthKnob, depth_knobs
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import remove_layers

TOGETHER, MEMORY = "layers of language and expert", "layers of language to keys and values"


def test_by_cka_the_first_layer_stays() -> None:
    (knob,) = depth_knobs(toy_policy(), "cka", toy_samples(2), FLOW_STEPS, 7).values()
    assert sorted(knob.order) == list(range(1, DEPTH))


def test_by_gate_what_does_nothing_goes_first() -> None:
    model = toy_policy()
    for stack, layers in ((model.language, (1, 4)), (model.expert, (1,))):
        for n, layer in enumerate(stack):
            if n in layers:
                layer.attention.o_proj.weight.zero_()
                assert isinstance(layer.mlp, GatedMLP)
                layer.mlp.down_proj.weight.zero_()
    knobs = depth_knobs(model, "gate", toy_samples(2), FLOW_STEPS, 7)
    assert list(knobs) == [TOGETHER, MEMORY]
    assert (knobs[TOGETHER].memory, knobs[MEMORY].memory) == (False, True)
    assert knobs[TOGETHER].order[0] == 1
    assert knobs[MEMORY].order[:3] == (1, 4, 5)  # nobody reads what leaves the last
    assert knobs[MEMORY].notches == DEPTH - 1
    alone = depth_knobs(model, "gate-kv", toy_samples(2), FLOW_STEPS, 7)
    assert alone == {MEMORY: knobs[MEMORY]}


def test_a_knob_counts_in_the_whole_policys_layers() -> None:
    model = toy_policy()
    remove_layers(model, {"language": {0, 2}, "expert": {0, 2}})
    structure = Structure.of(toy_policy()).without({"language": {0, 2}, "expert": {0, 2}})
    structure = DepthKnob(("language", "expert"), (3, 1), memory=False).apply(model, structure, 1)
    assert structure.origins()["language"] == (1, 4, 5)


def test_layers_can_keep_their_memory() -> None:
    model = toy_policy()
    structure = DepthKnob(("language", "expert"), (3, 1, 0), memory=True).apply(model, Structure.of(model), 2)
    assert [n for n, layer in enumerate(structure.stacks["language"]) if layer.memory] == [1, 3]
    assert [n for n, layer in enumerate(model.language) if isinstance(layer, MemoryLayer)] == [1, 3]
    assert len(model.expert) == DEPTH
