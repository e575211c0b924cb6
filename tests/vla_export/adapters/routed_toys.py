"""Toy policies whose linears carry LoRA-SP branches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.toy_policy import toy_samples
from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import EnergyGating, Gating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_linear import replace
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample, sample_actions


class ConstantGating(Gating):
    """Gates that no score changes, so that the branch is linear in its input."""

    def __init__(self, gates: Tensor) -> None:
        super().__init__()
        self.gates = nn.Parameter(gates, requires_grad=False)

    @property
    def scores(self) -> int:
        return len(self.gates)

    @property
    def directions(self) -> int:
        return len(self.gates)

    def forward(self, scores: Tensor) -> Tensor:
        return self.gates.expand_as(scores)

    def cut(self, selected: Tensor) -> tuple[Gating, Tensor]:
        raise NotImplementedError


def random_branch(
    linear: nn.Linear, generator: torch.Generator, size: float, directions: int = 6, gating: Gating | None = None
) -> Branch:
    """An update of about ``size`` for inputs of about one."""
    fan_in = linear.in_features**-0.5
    return Branch(
        A=torch.randn(directions, linear.in_features, generator=generator) * fan_in,
        B=torch.randn(linear.out_features, directions, generator=generator) * size,
        router=torch.randn(directions, linear.in_features, generator=generator) * fan_in,
        gating=EnergyGating(directions, 0.9, "released") if gating is None else gating,
    )


def route(
    model: FlowModel, size: float = 0.03, kinds: tuple[str, ...] = (), gating: Gating | None = None, seed: int = 0
) -> list[str]:
    """Put branches on every linear, or on those whose path ends in one of ``kinds``; returns their paths."""
    generator = torch.Generator().manual_seed(seed)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    paths = [path for path in linears if not kinds or path.endswith(kinds)]
    for path in paths:
        replace(model, path, RoutedLinear(linears[path], random_branch(linears[path], generator, size, gating=gating)))
    return paths


def answers(model: FlowModel, samples: list[Sample], flow_steps: int) -> list[Tensor]:
    """The model's chunk for each sample."""
    return [sample_actions(model, sample, flow_steps) for sample in samples]


def quadratic_state(model: FlowModel, size: float) -> None:
    """A branch on ``state_proj`` that adds the product of the state's first two numbers, times ``size`` everywhere."""
    linear = model.get_submodule("state_proj")
    assert isinstance(linear, nn.Linear)
    unit = torch.eye(linear.in_features)
    up = torch.full((linear.out_features, 1), size)
    replace(
        model, "state_proj", RoutedLinear(linear, Branch(unit[:1], up, unit[1:2], EnergyGating(1, 0.9, "released")))
    )


def state_samples(seed: int) -> list[Sample]:
    """Four samples whose states are zero but for two numbers, which are 1 or -1 in every combination."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    states = torch.nn.functional.pad(signs, (0, 6))
    return [
        Sample({**sample.observed, "state": state[None]}, sample.noise)
        for sample, state in zip(toy_samples(4, seed), states, strict=True)
    ]
