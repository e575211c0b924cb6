"""What the stages of an export may know of a policy, whatever its family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp

from vla_export.models.blocks import Stack

# Divided by at both ends of the flow in place of zero; what comes out is beyond any beta.
_LEAST = 1e-9


class FlowModel(nn.Module, ABC):
    """A flow-matching policy: one prefix per observation, then Euler steps on a noisy chunk that read it.

    Tensors are those of `vla_runtime.bundle.manifest.Manifest`, where a batch is one sample. Training passes larger
    ones: B samples have (B * C, 3, S, S) images, a sample's cameras in a row.

    config: every size, as a dataclass; that of a stack is a `StackSize` under the stack's name.
    """

    config: Any

    @abstractmethod
    def stacks(self) -> dict[str, Stack]:
        """The stacks by name, in the order data flows through them."""

    @abstractmethod
    def coupled(self) -> tuple[tuple[str, ...], ...]:
        """Groups of stacks that are read layer by layer and so must lose the same layers; the others read the first."""

    def remember_depths(self) -> None:
        """Let ``config`` say how many layers each stack has, after some were removed."""
        stacks = self.stacks()
        sizes = {name: replace(getattr(self.config, name), depth=len(stack)) for name, stack in stacks.items()}
        self.config = replace(self.config, **sizes)

    @abstractmethod
    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The encode graph's inputs by name → ``prefix_mask`` and every layer's ``key_NN``, ``value_NN``."""

    @abstractmethod
    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        """The flow's velocity at noisy chunks (B, H, A) and times (B,) or (1,), float32, from 1 (noise) to 0."""

    def denoise(self, chunk: Tensor, time: Tensor, next_time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        """One Euler step, in float32: the sum over steps is where half precision loses a flow."""
        return chunk + (next_time - time)[:, None, None] * self.velocity(chunk, time, prefix)

    def guided(
        self,
        chunk: Tensor,
        time: Tensor,
        next_time: Tensor,
        prefix: Mapping[str, Tensor],
        previous: Tensor,
        weights: Tensor,
        beta: Tensor,
    ) -> Tensor:
        """One Euler step that steers towards ``previous`` where ``weights`` are positive (arXiv 2506.07339).

        With t the time, running from 1 to 0 (the paper's τ is 1 − t), and v the velocity at x:

            x̂ = x − t v                                             what x becomes at t = 0, as seen from here
            g = (∂x̂/∂x)ᵀ [weights ⊙ (previous − x̂)]                  through the whole of `velocity`
            k = min(beta, (t² + (1 − t)²) / (t (1 − t)))             beta at either end of the flow
            next = x + (next_time − t) (v − k g)

        previous: what the actions shall become, (B, H, A). weights: (B, H, 1). beta: the most that g counts, (1,).
        """
        t = time[:, None, None]

        def estimate(x: Tensor) -> tuple[Tensor, Tensor]:
            velocity = self.velocity(x, time, prefix)
            return x - t * velocity, velocity

        clean, pull, velocity = vjp(estimate, chunk, has_aux=True)  # type: ignore[misc]  # three with has_aux
        (correction,) = pull(weights * (previous - clean))
        strength = torch.minimum(beta[:, None, None], (t * t + (1 - t) ** 2) / (t * (1 - t)).clamp(min=_LEAST))
        return chunk + (next_time[:, None, None] - t) * (velocity - strength * correction)

    def sample(self, prefix: Mapping[str, Tensor], noise: Tensor, steps: int) -> Tensor:
        """Noise (B, H, A) → actions, in ``steps`` equal steps from time 1 to 0."""
        chunk = noise
        for step in range(steps):
            time = noise.new_tensor([1.0 - step / steps])
            next_time = noise.new_tensor([1.0 - (step + 1) / steps])
            chunk = self.denoise(chunk, time, next_time, prefix)
        return chunk
