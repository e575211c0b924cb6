"""Which tokens of a sequence count: padding that nothing attends to changes no action."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vla_export.models.attention import MASKED
from vla_export.models.blocks import Layer


def attended(layer: Layer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Which of a layer's own tokens any token attends to: what its forward is called with → bool (B, T).

    Nothing attends to a cross layer's own tokens there, and all of them count.
    """
    call = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
    x, mask = call["x"], call.get("mask")
    if mask is None or layer.kind == "cross":
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    own = mask[..., -x.shape[1] :] > MASKED / 2
    return own.any(dim=2)[:, 0].expand(x.shape[:2])
