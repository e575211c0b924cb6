"""A checkpoint's tensors as they lie on disk: in one safetensors file, or in shards that an index names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vla_export.checkpoints.documents import read_json
from vla_runtime.bundle.bundle import sha256
from vla_runtime.errors import BadInput

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"
_NAMED = 3  # how many faults a message names

# Torch's types as safetensors names them.
TYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def has_weights(directory: Path) -> bool:
    """Whether `StoredTensors.in_directory` has anything to open."""
    return (directory / FILE).is_file() or (directory / INDEX).is_file()


@dataclass(frozen=True)
class StoredTensor:
    """One tensor that nobody has read yet: its file, shape, and type as safetensors names it (F32, BF16, …)."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class StoredTensors(Mapping[str, StoredTensor]):
    """Every tensor of a checkpoint by name; only headers are in memory. ``path``: the file or the index they are in."""

    path: Path
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def in_directory(cls, directory: Path) -> StoredTensors:
        """``model.safetensors``, else the shards of ``model.safetensors.index.json``; raises `BadInput` for neither."""
        if (directory / FILE).is_file() or not (directory / INDEX).is_file():
            return cls.in_file(directory / FILE)
        return cls.in_shards(directory / INDEX)

    @classmethod
    def in_file(cls, path: Path) -> StoredTensors:
        """One safetensors file; raises `BadInput` for one that is missing, truncated or something else."""
        return cls(path, _header(path))

    @classmethod
    def in_shards(cls, index: Path) -> StoredTensors:
        """The shards that an index names, each beside it.

        Raises `BadInput` for an index that is none, a shard that is missing, truncated or elsewhere, and shards whose
        tensors are not those that the index says are in them.
        """
        where = read_json(index).get("weight_map")
        if not isinstance(where, dict) or not where or not all(isinstance(shard, str) for shard in where.values()):
            raise BadInput(f"{index}: weight_map must say for every tensor which shard it is in")
        shards = sorted(set(where.values()))
        for shard in shards:
            if Path(shard).name != shard:
                raise BadInput(f"{index}: the shard {shard!r} must lie beside it")
        missing = [shard for shard in shards if not (index.parent / shard).is_file()]
        if missing:
            raise BadInput(f"{index}: {len(missing)} of {len(shards)} shards are missing: {_some(missing)}")
        tensors: dict[str, StoredTensor] = {}
        for shard in shards:
            found = _header(index.parent / shard)
            _check_shard(index, shard, {name for name in where if where[name] == shard}, set(found))
            tensors |= found
        return cls(index, tensors)

    def __getitem__(self, name: str) -> StoredTensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def read(self, name: str) -> Tensor:
        """One tensor in its stored type, mapped from its file: pages are read as they are used, and go with it.

        The file is opened for this tensor alone. A mapping that all shared would hold every page that was ever read
        for as long as any tensor lives.
        """
        file = self.tensors[name].file
        with _reading(file), safe_open(file, framework="pt", device="cpu") as content:
            tensor: Tensor = content.get_tensor(name)
            return tensor

    def sha256(self) -> str:
        """Of the one file; of shards, the digest of their list as sha256sum prints it, sorted by name."""
        files = sorted({tensor.file for tensor in self.tensors.values()})
        if self.path in files:
            return sha256(self.path)
        listed = "".join(f"{sha256(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(listed.encode()).hexdigest()


def _header(file: Path) -> dict[str, StoredTensor]:
    with _reading(file), safe_open(file, framework="pt", device="cpu") as content:
        entries = {name: content.get_slice(name) for name in sorted(content.keys())}
        return {
            name: StoredTensor(file, tuple(entry.get_shape()), str(entry.get_dtype()))
            for name, entry in entries.items()
        }


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} cannot be read as safetensors: {error}; copy or download it again") from error


def _check_shard(index: Path, shard: str, listed: set[str], found: set[str]) -> None:
    faults = [
        f"{_some(sorted(names))} {what}"
        for names, what in ((listed - found, "not in it"), (found - listed, "not in the index"))
        if names
    ]
    if faults:
        raise BadInput(f"{index}: {shard} is not the shard it describes: {'; '.join(faults)}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
