"""A random checkpoint of a published policy's full size, as one of the training projects would have saved it.

    python -m benchmarks.full_size pi0|pi05|smolvla lerobot-0.6|lerobot-0.4|lerobot-0.3|lora-sp|openpi DIRECTORY

Names, processors and statistics come from a tiny checkpoint that LeRobot 0.6 saved (tests/oracles/goldens), put into
the layout as the tests of its reader do; the shapes from LeRobot's full-size model. Tensors are drawn and written one
piece at a time: the whole is never in memory.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from tests.vla_export.checkpoints.layout_writers import as_lerobot_0_3, as_lerobot_0_4, as_lora_sp, as_openpi
from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.lerobot_buffers import is_buffer
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_runtime.command import DONE, run
from vla_runtime.errors import BadInput

GOLDENS = Path(__file__).resolve().parents[1] / "tests" / "oracles" / "goldens"
WEIGHTS = "model.safetensors"
PIECE = 1 << 24  # numbers drawn at a time

# What LeRobot's π0 keeps in float32 when it is trained in bfloat16 (to_bfloat16_for_selected_params), and what lies
# outside the module that this converts.
_KEPT_FLOAT32 = ("vision_tower", "multi_modal_projector", "input_layernorm", "post_attention_layernorm", "model.norm")
_CONVERTED = "paligemma_with_expert"

_LAYER = re.compile(r"(?<=\.layers\.)\d+(?=\.)")
_TYPES = {torch.float32: "F32", torch.bfloat16: "BF16"}


@dataclass(frozen=True)
class Family:
    """A published policy. sizes: fields of config.json, None for one that only a tiny policy has."""

    keys: KeyMap
    sizes: Mapping[str, Any]
    max_tokens: int
    half: bool

    def dtype(self, name: str) -> torch.dtype:
        """The type a tensor is trained and saved in, by LeRobot 0.6's name of it."""
        kept = _CONVERTED not in name or any(part in name for part in _KEPT_FLOAT32)
        return torch.bfloat16 if self.half and not kept else torch.float32


# Fields of config.json in any of the layouts; those of them that a layout has are set.
_CHUNK = {
    **dict.fromkeys(("chunk_size", "n_action_steps", "action_horizon"), 50),
    **dict.fromkeys(("max_state_dim", "max_action_dim", "action_dim"), 32),
}
_TINY = dict.fromkeys(("vision_config", "language_config", "expert_config", "vocab_size", "patch_size", "image_size"))
_PALIGEMMA = {
    **_CHUNK,
    **_TINY,
    "image_resolution": [224, 224],
    "resize_imgs_with_padding": [224, 224],
    **dict.fromkeys(("dtype", "precision"), "bfloat16"),
    "proj_width": 1024,
}

FAMILIES: Mapping[str, Family] = {
    "pi0": Family(PI0_KEYS, _PALIGEMMA, 48, half=True),
    "pi05": Family(PI05_KEYS, _PALIGEMMA, 200, half=True),
    "smolvla": Family(
        SMOLVLA_KEYS,
        {
            **_CHUNK,
            "resize_imgs_with_padding": [512, 512],
            "vlm_model_name": "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
            "num_vlm_layers": 16,
        },
        48,
        half=False,
    ),
}
# What turns the tiny checkpoint that LeRobot 0.6 saved into another layout, and the families that have it.
LAYOUTS: Mapping[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "lerobot-0.6": (lambda directory: None, ("pi0", "pi05", "smolvla")),
    "lerobot-0.4": (as_lerobot_0_4, ("pi0", "pi05", "smolvla")),
    "lerobot-0.3": (as_lerobot_0_3, ("pi0", "smolvla")),
    "lora-sp": (as_lora_sp, ("pi0", "smolvla")),
    "openpi": (as_openpi, ("pi0", "pi05")),
}


def write_full_size(family: str, layout: str, directory: Path, seed: int = 0) -> None:
    """Write the checkpoint into a new directory; raises `BadInput` where one is there already or the layout unknown."""
    convert, families = LAYOUTS[layout]
    if family not in families:
        raise BadInput(f"{family} has no layout {layout}: choose another")
    if directory.exists():
        raise BadInput(f"{directory} is there already: choose another directory")
    shutil.copytree(GOLDENS / family, directory, ignore=shutil.ignore_patterns("vlm_config.json"))
    convert(directory)
    published = FAMILIES[family]
    _enlarge_documents(directory, published)
    tiny = load((directory / WEIGHTS).read_bytes())  # not mapped: the file is written anew
    drawn = _names(tiny, published.keys, full_shapes(family))
    kept = {name: tensor for name, tensor in tiny.items() if is_buffer(name)}
    _write_weights(directory / WEIGHTS, drawn, kept, published, torch.Generator().manual_seed(seed))


def full_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """LeRobot 0.6's full-size model: name → shape."""
    with gzip.open(GOLDENS / f"{family}_full_size.json.gz", "rt", encoding="utf-8") as file:
        return {name: tuple(shape) for name, shape in json.load(file).items()}


@dataclass(frozen=True)
class Drawn:
    """A tensor to be drawn: LeRobot 0.6's name of it, which says what it is, and its shape."""

    newest: str
    shape: tuple[int, ...]


def _names(tiny: Iterable[str], keys: KeyMap, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Drawn]:
    """The full-size tensors by the names that a layout gives them, as the tiny checkpoint's show."""
    theirs = {_LAYER.sub("{n}", keys.newest(name)): name for name in tiny}
    drawn = {}
    for newest, shape in shapes.items():
        name = theirs.get(_LAYER.sub("{n}", newest))
        index = _LAYER.search(newest)
        if name is not None:  # an older layout leaves out what is tied to another tensor
            drawn[_LAYER.sub(index[0], name) if index else name] = Drawn(newest, shape)
    return drawn


def _enlarge_documents(directory: Path, family: Family) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {name: family.sizes[name] for name in family.sizes if name in config}
    config |= {"tokenizer_max_length": family.max_tokens} if "tokenizer_max_length" in config else {}
    if "empty_cameras" in config:
        seen = {name: feature for name, feature in config["input_features"].items() if "empty_camera" not in name}
        config |= {"input_features": seen, "empty_cameras": 0}
    config = {name: value for name, value in config.items() if name not in family.sizes or value is not None}
    path.write_text(json.dumps(config, indent=4), encoding="utf-8")
    preprocessor = directory / "policy_preprocessor.json"
    if preprocessor.is_file():
        content = json.loads(preprocessor.read_text(encoding="utf-8"))
        for step in content["steps"]:
            if step["registry_name"] == "tokenizer_processor":
                step["config"]["max_length"] = family.max_tokens
        preprocessor.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _write_weights(
    path: Path, drawn: Mapping[str, Drawn], small: Mapping[str, Tensor], family: Family, generator: torch.Generator
) -> None:
    """The safetensors format: length of the header, the header, padded to eight bytes, then every tensor in turn."""
    dtypes = {name: family.dtype(tensor.newest) for name, tensor in drawn.items()}
    ordered = sorted(drawn, key=lambda name: (-dtypes[name].itemsize, name))  # as the library orders them
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    shapes = {name: tuple(tensor.shape) for name, tensor in small.items()} | {n: drawn[n].shape for n in ordered}
    for name, shape in shapes.items():
        dtype = dtypes.get(name, torch.float32)
        start, end = end, end + prod(shape) * dtype.itemsize
        header[name] = {"dtype": _TYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in small.values():
            file.write(tensor.float().numpy().tobytes())
        for name in ordered:
            for piece in draw(drawn[name], generator):
                file.write(piece.to(dtypes[name]).view(torch.uint8).numpy().tobytes())


def draw(tensor: Drawn, generator: torch.Generator) -> Iterator[Tensor]:
    """Values that keep every activation near one: variance 1 / fan-in, norms near the identity, small biases."""
    norm = len(tensor.shape) == 1 and tensor.newest.endswith(".weight")
    gemma = norm and ("paligemma.model.language_model" in tensor.newest or "gemma_expert" in tensor.newest)
    if norm:
        mean, deviation = (0.0 if gemma else 1.0), 0.02  # Gemma adds 1 to what it stores
    elif len(tensor.shape) == 1:
        mean, deviation = 0.0, 0.02
    else:
        mean, deviation = 0.0, prod(tensor.shape[1:]) ** -0.5
    for start in range(0, prod(tensor.shape), PIECE):
        count = min(PIECE, prod(tensor.shape) - start)
        yield torch.empty(count).normal_(mean, deviation, generator=generator)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a random checkpoint of a published policy's full size.")
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("layout", choices=LAYOUTS)
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()

    def work() -> int:
        write_full_size(arguments.family, arguments.layout, arguments.directory)
        print(f"wrote {arguments.directory}")
        return DONE

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
