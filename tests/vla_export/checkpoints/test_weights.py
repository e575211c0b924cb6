from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.vla_export.checkpoints.layout_writers import in_shards
from vla_export.checkpoints.reading import read
from vla_export.graph import precision
from vla_export.graph.precision import half, half_parameters
from vla_runtime.errors import BadInput, WorkFailed

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
    assert HEAD not in found.weights.ignored


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


def test_half_holds_what_half_may_and_float32_the_rest(checkpoint: Path) -> None:
    model, halved = read(checkpoint).model, read(checkpoint, half=True).model
    expected = half_parameters(model)
    assert {name for name, tensor in halved.state_dict().items() if tensor.dtype is torch.float16} == expected
    assert expected
    for name, tensor in model.state_dict().items():
        assert torch.equal(halved.state_dict()[name], tensor.half() if name in expected else tensor)


def test_loading_in_half_is_loading_and_halving(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t.update({name: tensor.to(torch.bfloat16) for name, tensor in t.items()}))
    model = read(checkpoint).model
    half(model)
    loaded = read(checkpoint, half=True).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("limit", "expected"), [(10, torch.float16), (10**9, torch.float32)])
def test_by_default_large_policies_alone_are_half(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, limit: int, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_LARGE", limit)
    assert read(checkpoint, half=None).model.get_parameter("embedding.weight").dtype is expected


def test_the_originals_are_what_is_stored(checkpoint: Path) -> None:
    found = read(checkpoint, half=True)
    for name, tensor in read(checkpoint).model.state_dict().items():
        assert torch.equal(found.weights.original(name), tensor)


def test_loaded_weights_do_not_change_with_their_file(checkpoint: Path) -> None:
    model = read(checkpoint).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = checkpoint / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(256)) * 64)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("in_half", [False, True])
def test_weights_that_are_no_numbers_are_refused(
    checkpoint: Path, change_tensors: Change, value: float, in_half: bool
) -> None:
    change_tensors(lambda t: t[QUERY][5].fill_(value))
    with pytest.raises(BadInput, match=f"{QUERY} holds values that are infinite or no number"):
        read(checkpoint, half=in_half)


def test_a_weight_that_half_cannot_hold_is_named_as_it_is_stored(checkpoint: Path, change_tensors: Change) -> None:
    change_tensors(lambda t: t[QUERY][5].fill_(7e4))
    with pytest.raises(WorkFailed, match=rf"{QUERY} reaches 7e\+04"):
        read(checkpoint, half=True)
    read(checkpoint)


def test_shards_are_read_as_one_file_is(checkpoint: Path) -> None:
    whole = read(checkpoint)
    in_shards(checkpoint)
    parts = read(checkpoint)
    assert parts.weights.ignored == whole.weights.ignored
    assert all(torch.equal(tensor, parts.model.state_dict()[name]) for name, tensor in whole.model.state_dict().items())
