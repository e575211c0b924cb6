"""A state dict that ``torch.save`` wrote, behind the interface of stored tensors: read without running its code."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vla_export.checkpoints.stored_tensors import TYPE_NAMES, StoredTensor, StoredTensors
from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class PickledTensors(StoredTensors):
    """The tensors of one ``.pt``; they are mapped from the file, so that pages are read as they are used."""

    mapped: Mapping[str, Tensor]

    @classmethod
    def in_pickle(cls, path: Path) -> PickledTensors:
        """Open a plain state dict.

        Raises `BadInput` for a file that is missing, truncated, or something else, and for a pickle that would have to
        run code.
        """
        content = _load(path)
        if not isinstance(content, dict) or not content:
            raise BadInput(f"{path} must hold a plain state dict, tensors by name; it holds a {type(content).__name__}")
        for name, tensor in content.items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor) or tensor.dtype not in TYPE_NAMES:
                raise BadInput(
                    f"{path} must hold a plain state dict, tensors by name; {name!r} is none: save that alone"
                )
        return cls.of(path, content)

    @classmethod
    def of(cls, path: Path, mapped: Mapping[str, Tensor]) -> PickledTensors:
        """Tensors that are mapped from ``path``, under any names."""
        described = {
            name: StoredTensor(path, tuple(tensor.shape), TYPE_NAMES[tensor.dtype]) for name, tensor in mapped.items()
        }
        return cls(path, described, mapped)

    def read(self, name: str) -> Tensor:
        return self.mapped[name]


def _load(path: Path) -> object:
    if not path.is_file():
        raise BadInput(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise BadInput(
            f"{path} is not a whole archive of torch.save: copy it again (from torch before 1.6, save it again)"
        )
    if path.suffix == ".safetensors":  # torch.load goes by the name
        raise BadInput(f"{path} is called safetensors and is an archive of torch.save: rename it to .pt")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} is a pickle that would run code as it is loaded, and is not: a state dict needs none; save the "
            "policy's state_dict() alone"
        ) from error
    except (RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path} cannot be read as torch.save wrote it: {reason}; copy it again") from error
