"""State dicts in torch.save's archives: read as tensors or not at all."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from vla_export.adapters.pickled_tensors import PickledTensors
from vla_runtime.errors import BadInput


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        PickledTensors.in_pickle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Code:
    """What a hostile file may hold: a call that runs as it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.witness,)


def test_tensors_are_described_and_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    content = OrderedDict(a=torch.ones(2, 3), b=torch.ones(4, dtype=torch.bfloat16), n=torch.tensor(3))
    torch.save(content, path)
    found = PickledTensors.in_pickle(path)
    assert {name: (entry.shape, entry.dtype) for name, entry in found.items()} == {
        "a": ((2, 3), "F32"),
        "b": ((4,), "BF16"),
        "n": ((), "I64"),
    }
    assert all(torch.equal(found.read(name), tensor) for name, tensor in content.items())
    assert len(found.sha256()) == 64


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "model.pt", tmp_path / "witness"
    torch.save({"a": torch.ones(1), "evil": Code(witness)}, path)
    assert "would run code" in refused(path)
    assert not witness.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    assert "would run code" in refused(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [[torch.ones(2)], {}, {"epoch": 3}, {"model": {"a": torch.ones(2)}}, {1: torch.ones(2)}]
)
def test_anything_but_a_plain_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert "must hold a plain state dict" in refused(tmp_path / "model.pt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "not a whole archive" in refused(path)


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    path, witness = tmp_path / "model.pt", tmp_path / "witness"
    path.write_bytes(pickle.dumps(Code(witness)))
    assert "not a whole archive" in refused(path)
    assert not witness.exists()


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1000)}, path)
    content = bytearray(path.read_bytes())
    content[40:200] = bytes(160)
    path.write_bytes(content)
    assert str(path) in refused(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "model.pt")


def test_an_archive_called_safetensors_is_to_be_renamed(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert "rename it to .pt" in refused(tmp_path / "model.safetensors")
