"""Files written one tensor at a time, read back by the library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vla_export.prune.tensor_file import TensorEntry, write_tensors

TENSORS = {
    "b.half": torch.randn(3).half(),
    "a.brain": torch.randn(5, 1, 3).bfloat16(),
    "flags": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.empty(0, 4),
    "turned": torch.randn(4, 6).T,
    "count": torch.tensor([1, -2]),
}


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entries = [TensorEntry(n, t.dtype, tuple(t.shape), lambda t=t: t) for n, t in TENSORS.items()]  # type: ignore[misc]
    write_tensors(path, entries)
    found = load_file(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
        assert file.metadata() == {"format": "pt"}


def test_a_tensor_that_is_not_what_was_announced_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x is torch.float32"):
        write_tensors(tmp_path / "x", [TensorEntry("x", torch.float16, (2,), lambda: torch.zeros(2))])
