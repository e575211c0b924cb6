"""The vision-language model that a policy was trained from, as its own project lays it out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from torch import Tensor

from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.paligemma_keys import VLM as PALIGEMMA
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_export.checkpoints.stored_tensors import StoredTensors, has_weights
from vla_export.checkpoints.weights import FLOATS
from vla_runtime.errors import BadInput

CONFIG = "config.json"
_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")
_NAMED = 3  # how many faults a message names
# Projects whose models no family here is built on, by what their config.json calls itself.
_OTHERS = {"prismatic": "Prismatic", "openvla": "OpenVLA", "qwen": "Qwen-VL"}


@dataclass(frozen=True)
class VlmLayout:
    """Where a family's vision-language model lies in its own release.

    name, example: in words. model_type: in its config.json. keys: the policy's. prefix: what the policy's names put
    before those of the model. renamed: as `KeyMap.renamed`, for releases that only the model has. whole: whether the
    policy has all of its language layers.
    """

    name: str
    example: str
    model_type: str
    keys: KeyMap
    prefix: str
    whole: bool
    renamed: tuple[tuple[str, str], ...] = ()


def _paligemma(keys: KeyMap) -> VlmLayout:
    return VlmLayout(
        name="PaliGemma",
        example="google/paligemma-3b-mix-224",
        model_type="paligemma",
        keys=keys,
        prefix=PALIGEMMA,
        whole=True,
        renamed=(
            ("model.language_model.model.", "model.language_model."),  # as transformers 5.5 saves it
            ("vision_tower.encoder.", "vision_tower.vision_model.encoder."),  # the tower of transformers since 5.8
        ),
    )


LAYOUTS = {
    "pi0": _paligemma(PI0_KEYS),
    "pi05": _paligemma(PI05_KEYS),
    "smolvla": VlmLayout(
        name="SmolVLM2",
        example="HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        model_type="smolvlm",
        keys=SMOLVLA_KEYS,
        prefix="model.vlm_with_expert.vlm",
        whole=False,
    ),
}


@dataclass(frozen=True)
class BaseVlm:
    """A base that has been opened, of which only headers are in memory.

    names: the newest release's name of each tensor, as the policy's project calls it → the name it is stored under.
    """

    family: str
    layout: VlmLayout
    stored: StoredTensors
    names: Mapping[str, str]

    def has(self, ours: str) -> bool:
        """Whether it holds what stands for a tensor of the policy, by our name."""
        return self.layout.keys.theirs(ours) in self.names

    def read(self, ours: str) -> Tensor:
        """What stands for a tensor of the policy, by our name, in its stored type, mapped from its file."""
        return self.stored.read(self.names[self.layout.keys.theirs(ours)])

    def depth(self, ours: str) -> int:
        """How many layers hold what stands for a tensor that each layer of the policy's stack has."""
        return next(n for n in count() if not self.has(_LAYER.sub(str(n), ours)))

    def check(self, shapes: Mapping[str, tuple[int, ...]], depths: Mapping[str, int]) -> None:
        """Raise `BadInput` unless it holds these tensors, by our name, in these shapes.

        depths: by one of them, how many layers its stack must have.
        """
        faults = [fault for ours, shape in shapes.items() if (fault := self._fault(ours, shape))] or [
            f"{self._named(ours)} is in {self.depth(ours)} layers, the policy's in {depth}"
            for ours, depth in depths.items()
            if self.depth(ours) != depth
        ]
        if faults:
            more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise BadInput(
                f"--base {self.stored.path} is not the {self.layout.name} that this policy was trained from: "
                f"{'; '.join(faults[:_NAMED])}{more}; give that one ({self.layout.example}, for example)"
            )

    def _fault(self, ours: str, shape: tuple[int, ...]) -> str | None:
        if not self.has(ours):
            return f"{self._named(ours)} is missing"
        entry = self.stored[self.names[self.layout.keys.theirs(ours)]]
        if entry.shape != shape:
            return f"{self._named(ours)} is {list(entry.shape)}, the policy's is {list(shape)}"
        return None if entry.dtype in FLOATS else f"{self._named(ours)} is {entry.dtype}, not floating point"

    def _named(self, ours: str) -> str:
        theirs = self.layout.keys.theirs(ours)
        return self.names.get(theirs, theirs.removeprefix(f"{self.layout.prefix}."))


def open_base(directory: Path, family: str) -> BaseVlm:
    """Open the directory of the vision-language model that a policy of ``family`` was trained from.

    It is laid out as transformers saves it, by whatever release: config.json, and model.safetensors or its shards.

    Raises `BadInput` for a directory that is none, another model than the family's, or weights that are not
    safetensors.
    """
    layout = LAYOUTS.get(family)
    if layout is None:
        raise BadInput(f"--base {directory}: no base is known for a {family} policy; known: {', '.join(LAYOUTS)}")
    expected = f"a {family} policy is trained from {layout.name}: give its directory ({layout.example}, for example)"
    if not (directory / CONFIG).is_file():
        raise BadInput(f"--base {directory}: no {CONFIG} there; {expected}")
    _check_model(directory, read_json(directory / CONFIG), layout, expected)
    if not has_weights(directory):
        raise BadInput(f"--base {directory}: no model.safetensors and no shards of it there; {expected}")
    stored = StoredTensors.in_directory(directory)
    return BaseVlm(family, layout, stored, _newest_names(stored, layout))


def _check_model(directory: Path, config: Mapping[str, Any], layout: VlmLayout, expected: str) -> None:
    found = config.get("model_type")
    if found == layout.model_type:
        return
    # Prismatic's own release nests its configuration under "model" and has no model_type.
    model = config.get("model")
    said = str(found or (model.get("model_id", "prismatic") if isinstance(model, dict) else None)).lower()
    if isinstance(model, dict) and "llm_backbone_id" in model:
        said = "prismatic"
    other = next((name for mark, name in _OTHERS.items() if mark in said), None)
    if other is not None:
        raise BadInput(f"--base {directory}: {other}, on which no family of this project is built; {expected}")
    if "type" in config:
        raise BadInput(f"--base {directory}: a policy ({config['type']}), not what one is trained from; {expected}")
    raise BadInput(f"--base {directory}: its model_type is {found!r}, expected {layout.model_type!r}; {expected}")


def _newest_names(stored: StoredTensors, layout: VlmLayout) -> dict[str, str]:
    names: dict[str, str] = {}
    for key in stored:
        theirs = f"{layout.prefix}.{key}"
        for old, new in layout.renamed:
            theirs = theirs.replace(old, new)
        newest = layout.keys.newest(theirs)
        if newest in names:
            raise BadInput(f"--base {stored.path}: {names[newest]} and {key} are one tensor in two releases' names")
        names[newest] = key
    return names
