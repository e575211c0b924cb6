"""A whole policy that LoRA-SP's release saved with its adapter in it: ``{module}.base.weight`` beside A and B."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.four_bit import FourBitWeight, dequantised, find_four_bit
from vla_export.adapters.release_config import find_release_config, read_release_config
from vla_export.adapters.release_forms import BOOKKEEPING, form_of, tensor_names, update_of
from vla_export.adapters.tensor_checks import check_effect
from vla_export.checkpoints.stored_tensors import StoredTensor, StoredTensors
from vla_runtime.errors import BadInput

_BASE = "base."


@dataclass(frozen=True)
class PlainTensors(StoredTensors):
    """The tensors of the policy alone, under the names that a checkpoint without the adapter gives them.

    wrapped: the tensors as they are stored. names: ours → theirs. four_bit: those that are dequantised as they are
    read, back to the type they had before they were rounded.
    """

    wrapped: StoredTensors
    names: Mapping[str, str]
    four_bit: Mapping[str, FourBitWeight]

    def read(self, name: str) -> Tensor:
        if name in self.four_bit:
            return dequantised(self.four_bit[name], self.wrapped.read)
        return self.wrapped.read(self.names[name])


def is_wrapped(names: Iterable[str]) -> bool:
    """Whether these are the tensors of a policy with an adapter of LoRA-SP's release in it."""
    names = set(names)
    return any(f"{module}.A" in names and f"{module}.B" in names for module in _wrapped(names))


def read_wrapped(stored: StoredTensors, config: Path | None = None) -> Adapter:
    """The adapter of a wrapped policy, and the plain policy as `Adapter.policy`.

    config: the adapter's configuration, by default what `find_release_config` finds beside the weights under
    ``adapters``. Raises `BadInput` as `vla_export.adapters.lora_sp.read_lora_sp` does, and for a tensor beside a
    wrapped linear that is not one of the adapter's.
    """
    path = stored.path
    trained = read_release_config(config or find_release_config(path.parent, "adapters"))
    found = trained.model_copy(update={"four_bit": None})  # the file holds the rounded weights themselves
    modules = _wrapped(stored)
    plain: dict[str, str] = {}
    parts: dict[str, dict[str, str]] = {module: {} for module in modules}
    ignored: dict[str, str] = {}
    for name in stored:
        module, rest = _split(name, modules)
        if module is None:
            plain[name] = name
        elif rest.startswith(_BASE):
            plain[f"{module}.{rest.removeprefix(_BASE)}"] = name
        elif rest in tensor_names(found):
            parts[module][rest] = name
        elif rest in BOOKKEEPING:
            ignored[name] = BOOKKEEPING[rest]
        else:
            raise BadInput(f"adapter {path}: unknown tensor {name} beside a wrapped linear ({found.method})")
    updates = {
        module: update_of(path, module, {part: stored.read(name) for part, name in names.items()}, found)
        for module, names in parts.items()
    }
    check_effect(path, updates.values())
    settings = {name: str(value) for name, value in trained.model_dump(exclude_none=True).items()}
    return Adapter(path, form_of(found), updates, settings, ignored, _plain(stored, plain))


def _plain(stored: StoredTensors, names: Mapping[str, str]) -> PlainTensors:
    """``names`` without the pieces of four-bit weights, which count as the weight they make."""
    four_bit = {
        plain: weight
        for weight in find_four_bit(names.values(), stored.read).values()
        for plain, name in names.items()
        if name == weight.names[""]
    }
    pieces = {name for weight in four_bit.values() for suffix, name in weight.names.items() if suffix}
    kept = {plain: name for plain, name in names.items() if name not in pieces}
    tensors = {plain: stored[name] for plain, name in kept.items()}
    for plain, weight in four_bit.items():
        tensors[plain] = StoredTensor(tensors[plain].file, weight.shape, weight.dtype)
    return PlainTensors(stored.path, tensors, stored, kept, four_bit)


def _wrapped(names: Iterable[str]) -> set[str]:
    ending = f".{_BASE}weight"
    return {name.removesuffix(ending) for name in names if name.endswith(ending)}


def _split(name: str, modules: set[str]) -> tuple[str | None, str]:
    """The wrapped linear that a tensor belongs to, and the rest of its name."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:end])
        if module in modules:
            return module, ".".join(parts[end:])
    return None, name
