"""Policies with their adapter beside them, as the methods' own formulas have it: what a merge must not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Parts = Mapping[str, Tensor]
Update = Callable[[Tensor, Parts], Tensor]


def lora_sp_update(x: Tensor, parts: Parts, scale: float, threshold: float) -> Tensor:
    """LoRA-SP as its release computes it: sort, sum, mask, scatter."""
    scores = F.linear(x, parts["router.weight"])
    ordered, order = scores.sort(dim=-1, descending=True)
    kept = ordered.square().cumsum(-1) <= threshold * ordered.square().sum(-1, keepdim=True)
    kept[..., 0] = True
    mask = torch.zeros_like(kept).scatter(-1, order, kept)
    return scale * F.linear(F.linear(x, parts["A"]) * scores * mask, parts["B"])


def mixture_update(x: Tensor, parts: Parts, scale: float) -> Tensor:
    """A mixture of experts of the same release, the two best of them: one expert after the other."""
    gates = F.linear(x, parts["router.weight"]).softmax(-1)
    top, which = gates.topk(2, dim=-1)
    gates = torch.zeros_like(gates).scatter(-1, which, top / (top.sum(-1, keepdim=True) + 1e-9))
    result = torch.zeros(())
    for n in range(len(parts["A"])):
        result = result + gates[..., n, None] * scale * F.linear(F.linear(x, parts["A"][n]), parts["B"][n])
    return result


def experts_update(x: Tensor, parts: Parts, top_k: int) -> Tensor:
    """VLA-GSE with one generalised expert: it is always on, of the others the best ``top_k``, renormalised."""
    count = sum(name.startswith("lora_A.") for name in parts)

    def expert(n: int) -> Tensor:
        kind = "generalized_experts.0" if n == 0 else f"specialized_experts.{n - 1}"
        down = F.linear(x, parts[f"lora_A.default.{n}.weight"])
        return F.linear(down, parts[f"lora_B.default.{n}.weight"]) * parts[f"moe_layer.default.{kind}.scaling"]

    gates = F.linear(x, parts["lora_gating.default.weight"]).softmax(-1)
    top, which = gates.topk(top_k, dim=-1)
    weights = torch.zeros_like(gates).scatter(-1, which, top / top.sum(-1, keepdim=True))
    result = expert(0)
    for n in range(1, count):
        result = result + weights[..., n - 1, None] * expert(n)
    return result


def low_rank_update(x: Tensor, parts: Parts, scale: float) -> Tensor:
    """Plain LoRA."""
    return scale * F.linear(F.linear(x, parts["lora_A.weight"]), parts["lora_B.weight"])


@contextmanager
def beside(model: nn.Module, modules: Mapping[str, str], tensors: Parts, update: Update) -> Iterator[None]:
    """``model`` with the update of every adapted linear added to what that linear gives.

    modules: the start of the names of each linear's tensors → its path in ``model``.
    """
    handles = []
    for source, path in modules.items():
        parts = {name.removeprefix(f"{source}."): t for name, t in tensors.items() if name.startswith(f"{source}.")}
        handles.append(model.get_submodule(path).register_forward_hook(partial(_add, update, parts)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(update: Update, parts: Parts, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    return output + update(args[0], parts)
