"""Grounding: at the word of a colour, the language model must know where the cube of that colour is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference.demonstration_data import Batch
from reference.vocabulary import named_cube
from vla_export.models.norms import RMSNorm
from vla_export.models.paligemma import Reading

CENTRE = (0.27, 0.0, 0.02)  # [m], of where cubes lie
SCALE = 0.05  # [m]: an error of this size is where the loss turns from square to linear


class PositionHead(nn.Module):
    """Reads a position [m] off a token's last hidden state; at first it says the centre. Only training has one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.linear = nn.Linear(width, 3)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.centre: Tensor
        self.register_buffer("centre", torch.tensor(CENTRE), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (M, width) → positions (M, 3) [m]."""
        offset: Tensor = self.linear(self.norm(hidden))
        return offset * SCALE + self.centre


def positions(head: PositionHead, reading: Reading, batch: Batch) -> tuple[Tensor, Tensor]:
    """Where the cubes are that the instructions name, and where the head says they are; each (M, 3) [m]."""
    cube = named_cube(batch.tokens)
    words = reading.hidden[:, -batch.tokens.shape[1] :]
    row, _ = where = torch.nonzero(cube >= 0, as_tuple=True)
    return batch.cubes[row, cube[where]], head(words[where])


def grounding_loss(head: PositionHead, reading: Reading, batch: Batch) -> Tensor:
    """Smooth L1 of the positions, in units of `SCALE`."""
    true, found = positions(head, reading, batch)
    return F.smooth_l1_loss(found / SCALE, true / SCALE)
