"""How sensitive a policy is to each layer: the virtual gates of Drop-Then-Recovery (arXiv 2606.27755).

A gate of 1 multiplies what a layer adds to the residual stream, h_i = h_{i-1} + gate · (layer(h_{i-1}) - h_{i-1}), and
changes nothing. The loss's derivative by it, <dL/dh_i, h_i - h_{i-1}> over all tokens, is how the loss begins to change
as the layer is taken away; a layer's score is its mean size over samples, E|<dL/dh_i, h_i - h_{i-1}>|.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vla_export.float32 import float32
from vla_export.models.blocks import Layer, Stack
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample
from vla_runtime.errors import WorkFailed

PROBES = 4  # random directions of a chunk that a sample without actions is probed in


def gate_gradients(
    model: FlowModel,
    names: Sequence[str],
    samples: Sequence[Sample],
    flow_steps: int,
    numbers: int,
    actions: Sequence[Tensor] | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """dL/dgate of every layer of the named stacks, by stack: (probes, layers), float64.

    actions: what was done at each sample, (1, H, action width), normalised and padded. With them L is the flow-matching
    loss of a sample, ‖v(x_t, t) - (noise - actions)‖² / (H · numbers) at x_t = t · noise + (1 - t) · actions, averaged
    over the ``flow_steps`` times t that sampling visits, and a probe is a sample. numbers: how many of the action's
    numbers are used; padding does not count.

    Without actions there is no such loss, and that of the policy's own chunk is nearly flat. L is then the sampled
    chunk's component in a random direction, <r, chunk> with r standard normal / sqrt(H · numbers), and a probe one of
    `PROBES` directions a sample: the mean size of the derivative is sqrt(2 / π) of the root mean square by which the
    chunk's numbers begin to change as the layer is taken away, the sensitivity of the sampled actions.

    Memory is what each layer is given and what it adds, once per flow step for a stack that runs there; everything
    inside a layer is computed again on the way back. Arithmetic is float32 whatever the weights are stored in.

    Raises WorkFailed where a derivative is not finite.
    """
    if not samples or (actions is not None and len(actions) != len(samples)):
        raise ValueError(f"{len(samples)} samples and {len(actions or ())} chunks of actions")
    generator = torch.Generator().manual_seed(seed)
    stacks = model.stacks()
    gates = {name: torch.ones(len(stacks[name]), requires_grad=True) for name in names}
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.enable_grad(), float32(model), _gated({name: stacks[name] for name in names}, gates):
        for n, sample in enumerate(samples):
            prefix = model.encode(sample.observed)
            if actions is None:
                losses = _components(model.sample(prefix, sample.noise, flow_steps)[..., :numbers], generator)
            else:
                losses = [_flow_loss(model, prefix, sample.noise, actions[n], flow_steps, numbers)]
            for loss in losses:
                found = torch.autograd.grad(loss, list(gates.values()), retain_graph=True, allow_unused=True)
                for name, row in zip(names, found, strict=True):
                    rows[name].append(torch.zeros(len(stacks[name])) if row is None else row.detach())
    gradients = {name: torch.stack(probes).double() for name, probes in rows.items()}
    for name, gradient in gradients.items():
        if not gradient.isfinite().all():
            raise WorkFailed(f"stack {name}: the loss has no finite derivative, so its layers cannot be compared")
    return gradients


def sensitivities(gradients: Sequence[Tensor]) -> tuple[float, ...]:
    """E|dL/dgate| by index, summed over the stacks that lose the same layers: one or more (probes, L) → L scores.

    Sizes are added, not derivatives: two layers whose effects cancel to first order do not when both are gone.
    """
    return tuple(torch.stack([gradient.abs().mean(0) for gradient in gradients]).sum(0).tolist())


def _flow_loss(
    model: FlowModel, prefix: Mapping[str, Tensor], noise: Tensor, actions: Tensor, flow_steps: int, numbers: int
) -> Tensor:
    errors = []
    for step in range(flow_steps):
        time = noise.new_tensor([1.0 - step / flow_steps])
        velocity = model.velocity(time * noise + (1.0 - time) * actions, time, prefix)
        errors.append((velocity - (noise - actions))[..., :numbers].square().mean())
    return torch.stack(errors).mean()


def _components(chunk: Tensor, generator: torch.Generator) -> list[Tensor]:
    directions = torch.randn(PROBES, *chunk.shape, generator=generator) / chunk.numel() ** 0.5
    return [(direction * chunk).sum() for direction in directions]


class _GatedLayer(Layer):
    """A layer whose change of x is multiplied by a gate; only what goes in and comes out is kept for the way back."""

    def __init__(self, layer: Layer, gate: Tensor) -> None:
        nn.Module.__init__(self)
        self.kind, self.attention = layer.kind, layer.attention
        self.layer, self.gate = layer, gate

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, own = checkpoint(self.layer, x, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
        return x + self.gate * (out - x), own


@contextmanager
def _gated(stacks: Mapping[str, Stack], gates: Mapping[str, Tensor]) -> Iterator[None]:
    layers = {name: stack.layers for name, stack in stacks.items()}
    try:
        for name, stack in stacks.items():
            stack.layers = nn.ModuleList(
                _GatedLayer(layer, gate) for layer, gate in zip(stack, gates[name], strict=True)
            )
        yield
    finally:
        for name, stack in stacks.items():
            stack.layers = layers[name]
