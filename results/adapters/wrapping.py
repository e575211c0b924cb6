"""Putting an adapter on the linears of a π0: on which, and how the rest is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from torch import nn

from vla_export.adapters.static_linear import replace
from vla_export.models.pi0 import Pi0

STACKS = ("language", "expert")

Adapted = TypeVar("Adapted", bound=nn.Module)


def wrap_linears(model: Pi0, adapted: Callable[[nn.Linear], nn.Module | None]) -> list[str]:
    """Freeze ``model``, put ``adapted(linear)`` in the place of every linear of `STACKS`, and turn training on.

    adapted: None leaves the linear as it is. Returns the paths of the wrapped linears in ``model``.
    """
    model.requires_grad_(False)
    stacks = model.stacks()
    found = [
        (f"{stack}.{inside}", linear)
        for stack in STACKS
        for inside, linear in stacks[stack].named_modules()
        if isinstance(linear, nn.Linear)
    ]
    wrapped = []
    for path, linear in found:
        module = adapted(linear)
        if module is not None:
            replace(model, path, module)
            wrapped.append(path)
    model.train()
    return wrapped


def adapted_linears(model: Pi0, kind: type[Adapted]) -> Iterator[tuple[str, Adapted]]:
    """The linears of ``model`` that were wrapped by one method, by their path."""
    return ((path, module) for path, module in model.named_modules() if isinstance(module, kind))


def trained_parameters(model: Pi0) -> int:
    """How many numbers training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
