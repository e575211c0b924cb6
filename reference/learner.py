"""What the two stages of training minimise, and what training a finished policy further does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from reference.checkpoint import Statistics
from reference.demonstration_data import Batch
from reference.grounding import PositionHead, grounding_loss
from vla_export.models.paligemma import Reading
from vla_export.models.pi0 import Pi0

GROUNDING_WEIGHT = 3.0
DRAWS = 3  # of noise and time for each observation: the prefix, which is most of the work, is computed once
STATE_NOISE = 0.05  # standard deviations: joints alone must not tell where to hold still

# π0's flow times: Beta(1.5, 1), scaled to [0.001, 1] (arXiv 2410.24164, appendix B, in LeRobot's direction of time).
TIME_ALPHA, TIME_SCALE, TIME_OFFSET = 1.5, 0.999, 0.001


class FlowLearner(nn.Module):
    """A policy and the statistics of what it reads and speaks."""

    def __init__(self, model: Pi0, statistics: Statistics) -> None:
        super().__init__()
        self.model = model
        for name, value in vars(statistics).items():
            self.register_buffer(name, value)

    @property
    def statistics(self) -> Statistics:
        """Those it was made with: more data, added later, does not change what a number means."""
        return Statistics(**{name: self.get_buffer(name) for name in Statistics.__dataclass_fields__})

    def finetuning(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The loss of a policy that is trained further: ``total``, which is ``flow``."""
        flow = self.flow(self.model.read(batch.images, batch.tokens, batch.token_mask), batch, generator)
        return {"total": flow, "flow": flow}

    def flow(self, reading: Reading, batch: Batch, generator: torch.Generator) -> Tensor:
        """The flow loss of a batch that has been read, its states a little disturbed."""
        state = self.normal_state(batch.state)
        state = state + STATE_NOISE * _normal(state.shape, generator, state)
        return flow_loss(self.model, self.model.add_state(reading, state), self.normal_chunk(batch.chunk), generator)

    def normal_state(self, state: Tensor) -> Tensor:
        """State [rad, m] → what the policy reads."""
        return (state - self.get_buffer("state_mean")) / self.get_buffer("state_std")

    def normal_chunk(self, chunk: Tensor) -> Tensor:
        """Actions [rad, m] → what the policy speaks."""
        return (chunk - self.get_buffer("action_mean")) / self.get_buffer("action_std")

    def chunk(self, normal: Tensor) -> Tensor:
        """What the policy speaks → actions [rad, m]."""
        return normal * self.get_buffer("action_std") + self.get_buffer("action_mean")


class Learner(FlowLearner):
    """A policy and the head that only training reads. The first stage leaves the expert alone."""

    def __init__(self, model: Pi0, statistics: Statistics) -> None:
        super().__init__(model, statistics)
        self.head = PositionHead(model.config.language.width)

    def grounding(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of the first stage: ``total`` and its parts."""
        reading = self.model.read(batch.images, batch.tokens, batch.token_mask)
        loss = grounding_loss(self.head, reading, batch)
        return {"total": loss, "grounding": loss}

    def policy(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of the second stage: ``total`` and its parts."""
        reading = self.model.read(batch.images, batch.tokens, batch.token_mask)
        flow = self.flow(reading, batch, generator)
        grounding = grounding_loss(self.head, reading, batch)
        return {"total": flow + GROUNDING_WEIGHT * grounding, "flow": flow, "grounding": grounding}


def flow_loss(model: Pi0, prefix: Mapping[str, Tensor], chunk: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity at `DRAWS` times on the straight way from each chunk to noise.

    prefix: of B observations. chunk: (B, H, A), normalised.
    """
    count = len(chunk) * DRAWS
    target = chunk.repeat_interleave(DRAWS, dim=0)
    noise = _normal(target.shape, generator, target)
    uniform = torch.rand(count, generator=generator).to(target)
    time = uniform ** (1.0 / TIME_ALPHA) * TIME_SCALE + TIME_OFFSET  # the inverse of Beta(α, 1)'s distribution
    along = time[:, None, None]
    seen = {name: tensor.repeat_interleave(DRAWS, dim=0) for name, tensor in prefix.items()}
    velocity = model.velocity(along * noise + (1 - along) * target, time, seen)
    return (velocity - (noise - target)).square().mean()


def _normal(shape: torch.Size, generator: torch.Generator, like: Tensor) -> Tensor:
    """Noise drawn on the CPU, so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator).to(like)
