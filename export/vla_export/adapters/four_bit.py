"""Weights in bitsandbytes' four bits (QLoRA, arXiv 2305.14314): the base that LoRA-SP's release trains on if asked."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_runtime.errors import BadInput

# How bitsandbytes names what it stores beside a weight: blocks' scales, code book, and the shape and type it had.
_STATE = ".quant_state.bitsandbytes__"
_BESIDE = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", _STATE)
_BLOCK = 64
_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class FourBit(BaseModel):
    """The code book, and whether the blocks' scales are themselves rounded, to eight bits."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    code: Literal["fp4", "nf4"]
    compressed: bool


@dataclass(frozen=True)
class FourBitWeight:
    """A weight stored in four bits.

    shape, dtype: what it had before, the type as safetensors names it. names: all its tensors, by what follows the
    weight's own name.
    """

    shape: tuple[int, ...]
    dtype: str
    names: Mapping[str, str]


def find_four_bit(names: Iterable[str], read: Callable[[str], Tensor]) -> dict[str, FourBitWeight]:
    """The four-bit weights among stored tensors, by name; only their small descriptions are read.

    Raises `BadInput` for a description that is none, and where there is a four-bit weight but no bitsandbytes.
    """
    names = set(names)
    described = {name.partition(_STATE)[0]: name for name in sorted(names) if _STATE in name}
    found = {}
    for weight, description in described.items():
        beside = {
            name.removeprefix(weight): name for name in names if name.startswith(tuple(weight + b for b in _BESIDE))
        }
        try:
            content = json.loads(bytes(read(description).tolist()))
            shape, dtype = tuple(int(n) for n in content["shape"]), _TYPES[content["dtype"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{description} does not describe a four-bit weight: save the checkpoint again") from error
        found[weight] = FourBitWeight(shape, dtype, {"": weight, **beside})
    if found:
        _bitsandbytes(f"{next(iter(found))} and {len(found) - 1} more weights are stored in four bits")
    return found


def dequantised(weight: FourBitWeight, read: Callable[[str], Tensor]) -> Tensor:
    """The weight in the type it had before it was rounded."""
    functional = _bitsandbytes("a weight is stored in four bits")
    parts = {suffix.removeprefix("."): read(name) for suffix, name in weight.names.items() if suffix}
    state = functional.QuantState.from_dict(parts, device=torch.device("cpu"))
    exact: Tensor = functional.dequantize_4bit(read(weight.names[""]), state)
    return exact


def rounded(weight: Tensor, how: FourBit) -> Tensor:
    """What is left of a weight after a way through four bits, float32; blocks of 64 as in the release."""
    functional = _bitsandbytes("the adapter was trained on weights in four bits")
    packed, state = functional.quantize_4bit(
        weight.float().contiguous(), blocksize=_BLOCK, compress_statistics=how.compressed, quant_type=how.code
    )
    exact: Tensor = functional.dequantize_4bit(packed, state)
    return exact.float()


def _bitsandbytes(why: str) -> Any:
    try:
        return importlib.import_module("bitsandbytes.functional")
    except ImportError as error:
        raise BadInput(f"{why}, which only bitsandbytes reads: pip install 'vla-deploy[qlora]'") from error
