"""What exact branches do on real inputs: how many directions they use, and whether they obey their formula."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_export.adapters.apply import AppliedLayer
from vla_export.adapters.lora_sp import LoRASPAdapter, LoRASPBranch, LoRASPConfig
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel

# A token whose energy comes this near the threshold (relative) may be cut either way by rounding alone.
_BOUNDARY = 1e-5


class BranchObservation:
    """Running statistics of one branch over every token it has seen.

    tokens: their number. mean_rank, max_rank: directions kept per token. error: the largest relative difference, over
    tokens, between the layer's output and the formula's. undecided: tokens left out of ``error`` because their
    selection hangs on the last digit of a sum.
    """

    def __init__(self) -> None:
        self.tokens = self.undecided = self.max_rank = 0
        self.error = 0.0
        self._ranks = 0

    @property
    def mean_rank(self) -> float:
        return self._ranks / self.tokens if self.tokens else 0.0

    def add(self, ranks: Tensor, errors: Tensor, decided: Tensor) -> None:
        """ranks, errors, decided: one entry per token."""
        self.tokens += ranks.numel()
        self._ranks += int(ranks.sum())
        self.max_rank = max(self.max_rank, int(ranks.max()))
        self.undecided += int((~decided).sum())
        if decided.any():
            self.error = max(self.error, float(errors[decided].max()))


@contextmanager
def observing(
    model: FlowModel, adapter: LoRASPAdapter, layers: Sequence[AppliedLayer]
) -> Iterator[Mapping[str, BranchObservation]]:
    """Observe every applied branch of ``model`` while the context lasts; by path in the model."""
    observations = {layer.path: BranchObservation() for layer in layers}
    handles = []
    try:
        for layer in layers:
            module = model.get_submodule(layer.path)
            hook = _hook(observations[layer.path], adapter.branches[layer.source], adapter.config)
            handles.append(module.register_forward_hook(hook))
        yield observations
    finally:
        for handle in handles:
            handle.remove()


def _hook(observation: BranchObservation, branch: LoRASPBranch, config: LoRASPConfig) -> Any:
    def observe(module: RoutedLinear, args: tuple[Tensor, ...], output: Tensor) -> None:
        x = args[0].reshape(-1, args[0].shape[-1])
        update, ranks, margin = formula(x, branch, config)
        expected = F.linear(x, module.fused.weight[: module.out_features], module.up.bias) + update
        difference = (output.reshape(expected.shape) - expected).norm(dim=-1)
        errors = difference / expected.norm(dim=-1).clamp(min=torch.finfo(expected.dtype).tiny)
        observation.add(ranks, errors, margin > _BOUNDARY)

    return observe


def formula(x: Tensor, branch: LoRASPBranch, config: LoRASPConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The branch as its authors write it: sort, cut, put back. x: (tokens, in).

    Returns the update (tokens, out), the number of directions kept (tokens,), and the margin (tokens,): the least
    distance between a cumulative share of energy and the threshold.
    """
    down, scores = F.linear(x, branch.A.to(x.dtype)), F.linear(x, branch.router.to(x.dtype))
    if config.semantics == "paper":
        scores = scores.relu()
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    energy = ordered.square().cumsum(-1)
    total = energy[:, -1:]
    if config.semantics == "released":
        kept = energy <= config.threshold * total
    else:
        kept = torch.cat((torch.zeros_like(energy[:, :1]), energy[:, :-1]), dim=-1) < config.threshold * total
    kept[:, 0] = True
    keep = torch.zeros_like(kept).scatter(-1, order, kept)
    update = config.scale * F.linear(down * scores * keep, branch.B.to(x.dtype))
    margin = (energy / total.clamp(min=torch.finfo(x.dtype).tiny) - config.threshold).abs()
    margin[:, -1] = 1.0  # the whole is the whole, without rounding
    return update, kept.sum(-1), margin.amin(-1)
