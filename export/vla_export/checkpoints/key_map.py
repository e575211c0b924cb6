"""How the tensors of one family are called in a training project's checkpoint, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

_LAYER = re.compile(r"(?<=\.layers\.)(\d+)(?=\.)")


@dataclass(frozen=True)
class KeyMap:
    """Names of modules and tensors; ``{n}`` stands for a layer's index.

    modules: ours → theirs, for modules whose tensors keep their last name (weight, bias).
    tensors: ours → theirs, for single tensors.
    renamed: (old, new) fragments that turn an older release's names into the newest's, applied in order.
    prefix: what newer releases put before every name and older ones may leave out.
    stand_ins: theirs → the tensor that holds the same numbers where the first was not stored.
    ignored: theirs → why inference never reads it.
    """

    modules: Mapping[str, str]
    tensors: Mapping[str, str]
    renamed: tuple[tuple[str, str], ...]
    prefix: str
    stand_ins: Mapping[str, str]
    ignored: Mapping[str, str]

    def newest(self, key: str) -> str:
        """A checkpoint's name of a tensor or module, whatever release wrote it, as the newest release writes it."""
        key = key if key.startswith(self.prefix) else self.prefix + key
        for old, new in self.renamed:
            key = key.replace(old, new)
        return key

    def every_name(self, key: str) -> Iterator[str]:
        """The newest name of a tensor or module, and what older releases call it."""
        yield key
        older = key
        for old, new in self.renamed:
            older = older.replace(new, old)
        if older != key:
            yield older

    def theirs(self, tensor: str) -> str:
        """Our name of a tensor → theirs; a `KeyError` is a gap in the map."""
        pattern, index = _generic(tensor)
        if pattern in self.tensors:
            return self.tensors[pattern].format(n=index)
        module, _, leaf = pattern.rpartition(".")
        return f"{self.modules[module].format(n=index)}.{leaf}"

    def linears(self, model: nn.Module) -> dict[str, str]:
        """Every name a training project may have for a linear of ``model`` → ours, with and without ``prefix``."""
        return {
            name: ours
            for ours, module in model.named_modules()
            if isinstance(module, nn.Linear)
            for whole in self.every_name(self.theirs(f"{ours}.weight").removesuffix(".weight"))
            for name in (whole, whole.removeprefix(self.prefix))
        }


def _generic(name: str) -> tuple[str, str]:
    found = _LAYER.search(name)
    return (_LAYER.sub("{n}", name), found[0]) if found else (name, "")
