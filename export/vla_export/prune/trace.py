"""How alike the layers of a stack are on real inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vla_export.models.blocks import MASKED, Layer, Stack
from vla_export.models.flow_model import FlowModel
from vla_export.prune.cka import linear_cka
from vla_export.sample import Sample
from vla_runtime.errors import WorkFailed

_CALL = inspect.signature(Layer.forward)


@torch.no_grad()
def layer_similarities(
    model: FlowModel, names: Sequence[str], samples: Sequence[Sample], flow_steps: int
) -> dict[str, Tensor]:
    """Mean linear CKA between the hidden states of each named stack, by stack: (L + 1, L + 1), float64.

    Hidden state 0 is what enters the first layer (the embedding), hidden state l what leaves the l-th of L layers. As
    in CLP's code (arXiv 2606.20246), similarity is taken over the tokens of one sequence, then averaged over
    sequences; padding tokens, which nothing attends to, are left out. A stack that runs in the flow steps counts there,
    each step one sequence: what its layers did to the state token while the observation was encoded is not counted. Any
    other stack counts while encoding.

    Only one sample's hidden states are in memory at a time.
    """
    stacks = model.stacks()
    chosen = {name: stacks[name] for name in names}
    totals: dict[str, list[Tensor]] = {name: [] for name in names}
    for sample in samples:
        with _recording(chosen) as encoding:
            prefix = model.encode(sample.observed)
        with _recording(chosen) as flowing:
            model.sample(prefix, sample.noise, flow_steps)
        for name in names:
            totals[name] += [linear_cka(states) for states in flowing[name] or encoding[name]]
    for name, matrices in totals.items():
        if not matrices:
            raise WorkFailed(f"stack {name}: never ran on the samples, so its layers cannot be compared")
    return {name: torch.stack(matrices).mean(0) for name, matrices in totals.items()}


@contextmanager
def _recording(stacks: Mapping[str, Stack]) -> Iterator[dict[str, list[list[Tensor]]]]:
    """Record, by stack, every sequence that passes through it as its L + 1 hidden states, each (tokens, width)."""
    passes: dict[str, list[list[Tensor]]] = {name: [] for name in stacks}
    handles = []
    try:
        for name, stack in stacks.items():
            for place, layer in enumerate(stack):
                hook = _hook(passes[name], is_first=place == 0)
                handles.append(layer.register_forward_hook(hook, with_kwargs=True))
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _hook(passes: list[list[Tensor]], is_first: bool) -> Any:
    def record(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Any]) -> None:
        call = _CALL.bind(layer, *args, **kwargs)
        x = call.arguments["x"]
        seen = _attended(x, call.arguments.get("mask"), layer)
        if is_first:
            passes.extend([row[kept]] for row, kept in zip(x, seen, strict=True))
        for states, row, kept in zip(passes[-len(x) :], output[0], seen, strict=True):
            states.append(row[kept])

    return record


def _attended(x: Tensor, mask: Tensor | None, layer: Layer) -> Tensor:
    """Which of the layer's own tokens any token attends to: x (B, T, width), mask (B, 1, T, S) → bool (B, T)."""
    if mask is None or layer.kind == "cross":
        return torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    own = mask[..., -x.shape[1] :] > MASKED / 2
    return own.any(dim=2)[:, 0].expand(x.shape[:2])
