"""How alike the layers of a stack are on real inputs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vla_export.attended import attended
from vla_export.float32 import float32
from vla_export.models.blocks import Layer, Stack
from vla_export.models.flow_model import FlowModel
from vla_export.prune.cka import similarities, unit_gram
from vla_export.sample import Sample
from vla_runtime.errors import WorkFailed


@torch.no_grad()
def layer_similarities(
    model: FlowModel, names: Sequence[str], samples: Sequence[Sample], flow_steps: int
) -> dict[str, Tensor]:
    """Mean linear CKA between the hidden states of each named stack, by stack: (L + 1, L + 1), float64.

    Hidden state 0 is what enters the first layer (the embedding), hidden state l what leaves the l-th of L layers. As
    in CLP's code (arXiv 2606.20246), similarity is taken over the tokens of one sequence, then averaged over
    sequences of two tokens or more; padding tokens, which nothing attends to, are left out. A stack that runs in the
    flow steps counts there, each step one sequence: what its layers did to the state token while the observation was
    encoded is not counted. Any other stack counts while encoding.

    Arithmetic is float32 whatever the weights are stored in. No hidden state outlives its layer: what stays of a
    sequence is L + 1 matrices of tokens² numbers, at most the 123 MB of the 900 tokens of a π0's language model.
    """
    stacks = model.stacks()
    chosen = {name: stacks[name] for name in names}
    sums: dict[str, Tensor] = {}
    counts = dict.fromkeys(names, 0)
    for sample in samples:
        with float32(model), _recording(chosen) as encoding:
            prefix = model.encode(sample.observed)
        with float32(model), _recording(chosen) as flowing:
            model.sample(prefix, sample.noise, flow_steps)
        for name in names:
            for grams in flowing[name] or encoding[name]:
                sums[name] = sums.get(name, 0) + similarities(grams)
                counts[name] += 1
    for name, count in counts.items():
        if not count:
            raise WorkFailed(f"stack {name}: never ran on the samples, so its layers cannot be compared")
    return {name: sums[name] / counts[name] for name in names}


@contextmanager
def _recording(stacks: Mapping[str, Stack]) -> Iterator[dict[str, list[list[Tensor]]]]:
    """Record, by stack, every sequence that passes through it as the `unit_gram`s of its L + 1 hidden states."""
    passes: dict[str, list[list[Tensor]]] = {name: [] for name in stacks}
    handles = []
    try:
        for name, stack in stacks.items():
            for place, layer in enumerate(stack):
                hook = _hook(passes[name], f"stack {name}, hidden state", place)
                handles.append(layer.register_forward_hook(hook, with_kwargs=True))
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _hook(passes: list[list[Tensor]], what: str, place: int) -> Any:
    def record(layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Any]) -> None:
        x = inspect.signature(layer.forward).bind(*args, **kwargs).arguments["x"]
        seen = attended(layer, args, kwargs)
        # A single token, as π0's state is to its expert, is like nothing and counts for nothing.
        rows = [n for n, kept in enumerate(seen) if kept.sum() > 1]
        if place == 0:
            passes.extend([unit_gram(x[n][seen[n]], f"{what} 0")] for n in rows)
        for grams, n in zip(passes[len(passes) - len(rows) :], rows, strict=True):
            grams.append(unit_gram(output[0][n][seen[n]], f"{what} {place + 1}"))

    return record
