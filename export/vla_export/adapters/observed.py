"""What exact branches select on real inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from vla_export.adapters.gating import EnergyGating, Gating, ProjectedGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel


class BranchObservation:
    """Running statistics of one branch over every token it has seen.

    ranks: tokens by their active rank, the number of directions with a gate other than zero; (directions + 1,).
    selected: directions that any token used, (directions,), bool. most: how many scores one token kept at most, which
    may be more than it used where a score is zero. missed: tokens that need more than what ``known`` has.
    """

    def __init__(self, directions: int, known: BranchObservation | None = None) -> None:
        self.ranks = torch.zeros(directions + 1, dtype=torch.int64)
        self.selected = torch.zeros(directions, dtype=torch.bool)
        self.most = self.missed = 0
        self._known = known

    @property
    def tokens(self) -> int:
        """How many tokens it has seen."""
        return int(self.ranks.sum())

    @property
    def mean_rank(self) -> float:
        """Directions used per token."""
        return float((self.ranks * torch.arange(len(self.ranks))).sum()) / self.tokens if self.tokens else 0.0

    @property
    def max_rank(self) -> int:
        """The most that one token used."""
        used = self.ranks.nonzero()
        return int(used.max()) if len(used) else 0

    def add(self, gates: Tensor, kept: Tensor) -> None:
        """gates: (tokens, directions). kept: how many scores each token kept, (tokens,)."""
        active = gates != 0
        self.ranks += torch.bincount(active.sum(-1), minlength=len(self.ranks))
        self.selected |= active.any(0)
        self.most = max(self.most, int(kept.max()))
        if self._known is not None:
            missed = (active & ~self._known.selected).any(-1) | (kept > self._known.most)
            self.missed += int(missed.sum())


@contextmanager
def observing(
    model: FlowModel, paths: Sequence[str], known: Mapping[str, BranchObservation] | None = None
) -> Iterator[Mapping[str, BranchObservation]]:
    """Observe the routed linears at ``paths`` while the context lasts; by path.

    known: what earlier inputs selected, by path; tokens that go beyond it are counted as missed.
    """
    observations: dict[str, BranchObservation] = {}
    handles = []
    try:
        for path in paths:
            linear = model.get_submodule(path)
            if not isinstance(linear, RoutedLinear):
                raise ValueError(f"{path} carries no branch")
            seen = BranchObservation(linear.directions, None if known is None else known[path])
            observations[path] = seen
            # The selection of a projected gating is what gives its gates.
            gating = linear.gating.selection if isinstance(linear.gating, ProjectedGating) else linear.gating
            handles.append(gating.register_forward_hook(partial(_observe, seen)))
        yield observations
    finally:
        for handle in handles:
            handle.remove()


def _observe(observation: BranchObservation, module: Gating, args: tuple[Tensor, ...], gates: Tensor) -> None:
    kept = module.kept(args[0]) if isinstance(module, EnergyGating) else gates != 0
    observation.add(gates.reshape(-1, gates.shape[-1]), kept.sum(-1).flatten())
