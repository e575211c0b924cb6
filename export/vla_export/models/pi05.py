"""π0.5 (arXiv 2504.16054): π0 whose state is part of the text and whose expert's norms follow the flow's time.

Images and words see each other; the actions see them and each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.blocks import adaptive_gemma_stack
from vla_export.models.flow_time import sinusoid
from vla_export.models.linears import through
from vla_export.models.paligemma import PaliGemmaConfig, PaliGemmaPolicy


@dataclass(frozen=True)
class Pi05Config(PaliGemmaConfig):
    """Every size of a π0.5; the defaults are the published model's."""


class Pi05(PaliGemmaPolicy):
    """The whole policy; it has no state tensor, the observation's words hold the state."""

    config: Pi05Config

    def __init__(self, config: Pi05Config) -> None:
        super().__init__(config, adaptive_gemma_stack("expert", config.expert, "joint"))
        width = config.expert.width
        self.action_in_proj = nn.Linear(config.action_width, width)
        self.action_out_proj = nn.Linear(width, config.action_width)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)

    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        reading = self.read(observed["images"], observed["tokens"], observed["token_mask"])
        prefix = {"prefix_mask": reading.seen}
        for n, (keys, values) in enumerate(reading.layers):
            prefix |= {f"key_{n:02d}": keys, f"value_{n:02d}": values}
        return prefix

    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        x, condition = through(self.action_in_proj, chunk), self.condition(time)
        rope, visible = self.sight(prefix, chunk.shape[1])
        for n, layer in enumerate(self.expert):
            x, _ = layer(x, rope, visible, (prefix[f"key_{n:02d}"], prefix[f"value_{n:02d}"]), condition)
        assert self.expert.norm is not None
        normed, _ = self.expert.norm(x, condition)
        return through(self.action_out_proj, normed)

    def condition(self, time: Tensor) -> Tensor:
        """What the expert's norms follow at flow times (B,): (B, expert width), float32."""
        when = sinusoid(time, self.expert.width, self.config.min_period, self.config.max_period)
        return F.silu(through(self.time_mlp_out, F.silu(through(self.time_mlp_in, when))))
