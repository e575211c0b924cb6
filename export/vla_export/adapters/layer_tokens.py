"""The tokens that pass through single linears of a policy, those that change no action left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vla_export.attended import attended
from vla_export.models.blocks import Layer
from vla_export.models.flow_model import FlowModel


@dataclass(frozen=True)
class Tokens:
    """One call of a linear: x (n, in) and y (n, out) of the tokens that count, of ``computed`` tokens in all."""

    x: Tensor
    y: Tensor
    computed: int


Receive = Callable[[Tokens], None]


@contextmanager
def layer_tokens(model: FlowModel, receivers: Mapping[str, Receive]) -> Iterator[None]:
    """While the context lasts, every call of a linear gives its tokens to the receiver under the linear's path.

    A layer's tokens that nothing attends to are left out: padding of the task. Keys and values that a cross layer
    projects from another layer's are that layer's tokens, whichever ran last. Every other token counts: all patches,
    the chunk's in each flow step, and what passes through linears outside the stacks.
    """
    latest: list[Tensor] = []
    layers = [layer for stack in model.stacks().values() for layer in stack]
    inside = {module for layer in layers for module in layer.modules()}
    handles = []
    try:
        for layer in layers:
            handles.append(layer.register_forward_pre_hook(_note(latest), with_kwargs=True))
        for path, receive in receivers.items():
            module = model.get_submodule(path)
            handles.append(module.register_forward_hook(_hand_over(receive, latest, module in inside)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(latest: list[Tensor]) -> Any:
    def note(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        latest[:] = [attended(layer, args, kwargs)]

    return note


def _hand_over(receive: Receive, latest: list[Tensor], inside: bool) -> Any:
    def hand_over(linear: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        x, y = args[0].flatten(0, -2), output.flatten(0, -2)
        if inside and args[0].ndim == 3:  # a condition of a layer, (B, width), is no sequence
            counted = latest[0].flatten()
            receive(Tokens(x[counted], y[counted], len(x)))
        else:
            receive(Tokens(x, y, len(x)))

    return hand_over
