"""Writing a safetensors file one tensor after another; the library's own writer holds them all at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from vla_export.checkpoints.stored_tensors import TYPE_NAMES


@dataclass(frozen=True)
class TensorEntry:
    """A tensor to write: its name, type and shape, and how to get it when its turn comes."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def write_tensors(path: Path, entries: Sequence[TensorEntry]) -> None:
    """Write a safetensors file as torch's programs expect it, wider types first, so that every tensor lies aligned.

    The format: 8 bytes with the length of a JSON header, the header, then the tensors without gaps
    (github.com/huggingface/safetensors). Raises ValueError for a tensor that is not what its entry says, OSError where
    the file cannot be written; what was written is then worthless.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in ordered:
        start, end = end, end + prod(entry.shape) * entry.dtype.itemsize
        header[entry.name] = {"dtype": TYPE_NAMES[entry.dtype], "shape": entry.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for entry in ordered:
            tensor = entry.read()
            if (tensor.dtype, tuple(tensor.shape)) != (entry.dtype, entry.shape):
                raise ValueError(
                    f"{entry.name} is {tensor.dtype} {tuple(tensor.shape)}, not {entry.dtype} {entry.shape}"
                )
            file.write(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
