from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vla_export.checkpoints.reading import read
from vla_runtime.errors import BadInput

VLM = "model.paligemma_with_expert.paligemma"
EMBEDDING = f"{VLM}.model.language_model.embed_tokens.weight"
HEAD = f"{VLM}.lm_head.weight"
QUERY = f"{VLM}.model.language_model.layers.1.self_attn.q_proj.weight"

Tensors = dict[str, torch.Tensor]
Change = Callable[[Callable[[Tensors], None]], None]


def test_a_missing_tensor_is_named(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.pop(QUERY))
    with pytest.raises(BadInput, match=f"1 missing: {QUERY}$"):
        read(checkpoint)


def test_an_unexpected_tensor_is_named(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({"model.surprise.weight": torch.zeros(3)}))
    with pytest.raises(BadInput, match="1 unexpected: model.surprise.weight$"):
        read(checkpoint)


def test_a_misshapen_tensor_is_named_with_both_shapes(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({QUERY: torch.zeros(3, 40)}))
    with pytest.raises(BadInput, match=rf"1 of another shape: {QUERY} is \[3, 40\], expected \[64, 40\]"):
        read(checkpoint)


def test_a_transposed_tensor_is_misshapen(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({QUERY: t[QUERY].T}))
    with pytest.raises(BadInput, match=QUERY):
        read(checkpoint)


def test_a_quantised_tensor_is_refused(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({QUERY: t[QUERY].to(torch.int8)}))
    with pytest.raises(BadInput, match=f"1 not floating point: {QUERY} is I8"):
        read(checkpoint)


def test_many_faults_are_counted_and_the_first_named(checkpoint: Path, change_tensors: Change) -> None:
    def spoil(tensors: Tensors) -> None:
        for name in [n for n in tensors if ".vision_tower." in n]:
            tensors[f"other.{name}"] = tensors.pop(name)

    change_tensors(spoil)
    with pytest.raises(BadInput, match=r"37 missing: .* and 32 more; 37 unexpected: .* and 32 more") as raised:
        read(checkpoint)
    assert "\n" not in str(raised.value)


def test_a_head_stands_in_for_an_embedding_that_was_not_stored(checkpoint: Path, change_tensors: Change) -> None:
    head = load_file(checkpoint / "model.safetensors")[HEAD]
    change_tensors(lambda t: t.pop(EMBEDDING))
    found = read(checkpoint)
    assert torch.equal(found.model.get_parameter("embedding.weight"), head)
    assert HEAD not in found.ignored


def test_without_embedding_and_head_the_embedding_is_missing(checkpoint: Path, change_tensors: Change) -> None:
    def untie(tensors: Tensors) -> None:
        del tensors[EMBEDDING], tensors[HEAD]

    change_tensors(untie)
    with pytest.raises(BadInput, match=f"1 missing: {EMBEDDING}"):
        read(checkpoint)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_float32(checkpoint: Path, change_tensors: Change, dtype: torch.dtype) -> None:
    stored = load_file(checkpoint / "model.safetensors")[QUERY]
    change_tensors(lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))
    weight = read(checkpoint).model.get_parameter("language.layers.1.attention.q_proj.weight")
    assert weight.dtype == torch.float32
    assert torch.equal(weight, stored.to(dtype).float())
    assert not torch.equal(weight, stored)


def test_older_names_are_read_too(checkpoint: Path, change_tensors: Change) -> None:
    newest = read(checkpoint)

    def age(tensors: Tensors) -> None:
        for name in list(tensors):
            old = (
                name.removeprefix("model.")
                .replace("paligemma.model.language_model.", "paligemma.language_model.model.")
                .replace("paligemma.model.", "paligemma.")
                .replace("paligemma.lm_head", "paligemma.language_model.lm_head")
            )
            tensors[old] = tensors.pop(name)

    change_tensors(age)
    oldest = read(checkpoint)
    for name, tensor in newest.model.state_dict().items():
        assert torch.equal(tensor, oldest.model.state_dict()[name])


def test_one_tensor_under_two_names_is_refused(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({QUERY.removeprefix("model."): t[QUERY].clone()}))
    with pytest.raises(BadInput, match="two releases' names"):
        read(checkpoint)


def test_a_truncated_file_is_one_line(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cannot be read as safetensors"):
        read(checkpoint)
