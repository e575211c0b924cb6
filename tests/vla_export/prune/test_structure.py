"""What is left of a policy, as a value: it follows the surgery, and makes the same surgery again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vla_export.models.tiny_families import FAMILIES, random_samples
from vla_export.models.blocks import MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.heads import keep_heads
from vla_export.prune.structure import LayerStructure, Structure, apply_structure
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput


def prune(model: FlowModel, data: st.DataObject) -> Structure:
    """Whatever surgery comes up, done to the model and to its structure alike."""
    structure = Structure.of(model)
    depth = len(model.stacks()["language"])
    removed = data.draw(st.sets(st.integers(0, depth - 1), max_size=depth - 1))
    remove_layers(model, {"language": removed, "expert": removed})
    structure = structure.without({"language": removed, "expert": removed})
    reduced = data.draw(st.sets(st.integers(0, depth - len(removed) - 1)))
    keep_memory(model, "language", reduced)
    structure = structure.remembering("language", reduced)
    for name, stack in model.stacks().items():
        for n, layer in enumerate(stack):
            if isinstance(layer, MemoryLayer) or not data.draw(st.booleans()):
                continue
            kept = some(data, channels(layer.mlp))
            keep_channels(layer.mlp, kept)
            structure = structure.with_channels(name, n, kept)
            kept = some(data, layer.attention.heads)
            keep_heads(layer.attention, kept, shared=name != "vision")
            structure = structure.with_heads(name, n, kept)
    return structure


def some(data: st.DataObject, count: int) -> list[int]:
    return sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(deadline=None, max_examples=12)
@given(data=st.data())
@torch.no_grad()
def test_a_structure_cuts_a_whole_policy_to_the_same(family: str, data: st.DataObject) -> None:
    """Pruned twice over, so that indices of the second time count what the first has left."""
    pruned, again = FAMILIES[family](), FAMILIES[family]()
    first = prune(pruned, data)
    structure = prune(pruned, data).within(first)
    assert Structure.model_validate_json(structure.model_dump_json()) == structure
    apply_structure(again, structure, "structure.json")
    expected, found = pruned.state_dict(), again.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    (sample,) = random_samples(family, 1)
    assert torch.equal(sample_actions(again, sample, 2), sample_actions(pruned, sample, 2))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_all_of_a_policy_takes_nothing_out_of_it(family: str) -> None:
    model = FAMILIES[family]()
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    apply_structure(model, Structure.of(model), "structure.json")
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before


def changed(structure: Structure, stack: str, *layers: LayerStructure) -> Structure:
    return Structure(stacks=structure.stacks | {stack: layers})


@pytest.mark.parametrize(
    ("stack", "layers", "message"),
    [
        ("vision", [LayerStructure(layer=2, kind="self")], r"vision keeps layers \[2\]; expected some of 2"),
        ("vision", [LayerStructure(layer=1, kind="self"), LayerStructure(layer=0, kind="self")], "ascending"),
        ("vision", [], "expected some of 2"),
        ("vision", [LayerStructure(layer=0, kind="cross")], "is a cross layer; the policy's is a self layer"),
        ("vision", [LayerStructure(layer=0, kind="self", memory=True)], "no other stack reads vision"),
        ("vision", [LayerStructure(layer=0, kind="self", channels=(0, 99))], "cannot keep 2 channels of 40"),
        ("vision", [LayerStructure(layer=0, kind="self", heads=(1, 0))], r"cannot keep heads \[1, 0\] of 3"),
        ("language", [LayerStructure(layer=0, kind="self")], "are coupled and must lose the same layers"),
        ("language", [LayerStructure(layer=0, kind="self", memory=True, channels=(1,))], "memory alone"),
        ("dit", [LayerStructure(layer=0, kind="self")], "the stacks are vision, language, expert, dit"),
    ],
)
def test_a_structure_of_another_policy_is_refused(stack: str, layers: list[LayerStructure], message: str) -> None:
    model = FAMILIES["pi05"]()
    structure = changed(Structure.of(model), stack, *layers)
    with pytest.raises(BadInput, match=f"^here: .*{message}"):
        apply_structure(model, structure, "here")
