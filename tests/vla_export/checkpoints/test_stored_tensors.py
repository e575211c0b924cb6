"""One file or many shards: the same tensors, and every way in which shards are not those of their index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vla_export.checkpoints.layout_writers import in_shards
from vla_export.checkpoints.stored_tensors import INDEX, StoredTensors, has_weights
from vla_runtime.errors import BadInput

SHARD = "model-00002-of-00003.safetensors"


@pytest.fixture
def sharded(checkpoint: Path) -> Path:
    in_shards(checkpoint)
    return checkpoint


def test_shards_hold_what_the_file_held(checkpoint: Path) -> None:
    whole = StoredTensors.in_directory(checkpoint)
    expected = load_file(checkpoint / "model.safetensors")
    described = {name: (tensor.shape, tensor.dtype) for name, tensor in whole.items()}
    in_shards(checkpoint)
    parts = StoredTensors.in_directory(checkpoint)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in parts.items()} == described
    assert parts.path == checkpoint / INDEX
    for name, tensor in expected.items():
        assert torch.equal(parts.read(name), tensor)


def test_headers_say_shape_and_type(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.ones(1)}, tmp_path / "x.safetensors")
    stored = StoredTensors.in_file(tmp_path / "x.safetensors")
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in stored.items()} == {
        "a": ((2, 3), "BF16"),
        "b": ((1,), "F32"),
    }
    assert stored.read("a").dtype is torch.bfloat16


def test_the_digest_of_one_file_is_the_files(checkpoint: Path) -> None:
    found = StoredTensors.in_directory(checkpoint).sha256()
    assert found == hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def test_the_digest_of_shards_changes_with_any_of_them(sharded: Path) -> None:
    before = StoredTensors.in_directory(sharded).sha256()
    tensors = load_file(sharded / SHARD)
    name = min(tensors)
    save_file(tensors | {name: tensors[name] + 1}, sharded / SHARD)
    assert StoredTensors.in_directory(sharded).sha256() != before


def test_no_weights(tmp_path: Path) -> None:
    assert not has_weights(tmp_path)
    with pytest.raises(BadInput, match="cannot be read as safetensors"):
        StoredTensors.in_directory(tmp_path)


def _remove(directory: Path) -> None:
    (directory / SHARD).unlink()


def _truncate(directory: Path) -> None:
    path = directory / SHARD
    path.write_bytes(path.read_bytes()[:-10])


def _halve_header(directory: Path) -> None:
    path = directory / SHARD
    path.write_bytes(path.read_bytes()[:40])


def _swap(directory: Path) -> None:
    (directory / SHARD).write_bytes((directory / "model-00001-of-00003.safetensors").read_bytes())


def _lose_a_tensor(directory: Path) -> None:
    tensors = load_file(directory / SHARD)
    del tensors["model.action_in_proj.weight" if "model.action_in_proj.weight" in tensors else min(tensors)]
    save_file(tensors, directory / SHARD)


def _gain_a_tensor(directory: Path) -> None:
    save_file(load_file(directory / SHARD) | {"model.surprise": torch.zeros(2)}, directory / SHARD)


def _index(change: Callable[[dict[str, str]], object]) -> Callable[[Path], None]:
    def spoil(directory: Path) -> None:
        content = json.loads((directory / INDEX).read_text())
        (directory / INDEX).write_text(json.dumps(content | {"weight_map": change(content["weight_map"])}))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove, f"1 of 3 shards are missing: {SHARD}"),
        (_truncate, f"{SHARD} cannot be read as safetensors"),
        (_halve_header, f"{SHARD} cannot be read as safetensors"),
        (_swap, f"{SHARD} is not the shard it describes"),
        (_lose_a_tensor, "not in it$"),
        (_gain_a_tensor, "model.surprise not in the index$"),
        (_index(lambda _: []), "weight_map must say"),
        (_index(lambda _: {}), "weight_map must say"),
        (_index(lambda where: dict.fromkeys(where, 3)), "weight_map must say"),
        (_index(lambda where: dict.fromkeys(where, "../elsewhere.safetensors")), "must lie beside it"),
        (lambda directory: (directory / INDEX).write_text("{"), "cannot be read as JSON"),
    ],
)
def test_shards_that_are_not_the_indexs_are_one_line(
    sharded: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(sharded)
    with pytest.raises(BadInput, match=message) as raised:
        StoredTensors.in_directory(sharded)
    assert "\n" not in str(raised.value)
