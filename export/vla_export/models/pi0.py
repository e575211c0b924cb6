"""π0 (arXiv 2410.24164): SigLIP and Gemma read the observation, a second, thinner Gemma reads them and the actions.

Tokens attend in three groups: images and words see each other; the state sees them and itself; the actions see all.
The state's keys and values therefore do not depend on the actions and are part of the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_export.models.attention import additive, rotation
from vla_export.models.blocks import gemma_stack
from vla_export.models.flow_time import mixed_with_time, sinusoid
from vla_export.models.linears import through
from vla_export.models.paligemma import PaliGemmaConfig, PaliGemmaPolicy, Reading


@dataclass(frozen=True)
class Pi0Config(PaliGemmaConfig):
    """Every size of a π0; the defaults are the published model's."""

    state_width: int = 32


class Pi0(PaliGemmaPolicy):
    """The whole policy; see the module's docstring for who sees whom."""

    config: Pi0Config

    def __init__(self, config: Pi0Config) -> None:
        super().__init__(config, gemma_stack("expert", config.expert, "joint", final_norm=True))
        width = config.expert.width
        self.state_proj = nn.Linear(config.state_width, width)
        self.action_in_proj = nn.Linear(config.action_width, width)
        self.action_out_proj = nn.Linear(width, config.action_width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        reading = self.read(observed["images"], observed["tokens"], observed["token_mask"])
        return self.add_state(reading, observed["state"])

    def add_state(self, reading: Reading, state: Tensor) -> dict[str, Tensor]:
        """The prefix: keys and values of what was read, and after them the state's (B, state width)."""
        s = through(self.state_proj, state)[:, None, :]
        rope = rotation(reading.end, self.config.expert.head_dim)
        prefix_mask = torch.cat((reading.seen, reading.seen.new_ones(state.shape[0], 1)), dim=1)
        visible = additive(prefix_mask)

        prefix = {"prefix_mask": prefix_mask}
        for n, (layer, past) in enumerate(zip(self.expert, reading.layers, strict=True)):
            s, own = layer(s, rope, visible, past)
            prefix[f"key_{n:02d}"] = torch.cat((past[0], own[0]), dim=2)
            prefix[f"value_{n:02d}"] = torch.cat((past[1], own[1]), dim=2)
        return prefix

    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        x = self.embed_actions(chunk, time)
        rope, visible = self.sight(prefix, chunk.shape[1])
        for n, layer in enumerate(self.expert):
            x, _ = layer(x, rope, visible, (prefix[f"key_{n:02d}"], prefix[f"value_{n:02d}"]))
        assert self.expert.norm is not None
        return through(self.action_out_proj, self.expert.norm(x))

    def embed_actions(self, chunk: Tensor, time: Tensor) -> Tensor:
        """Noisy chunks (B, H, A) and their flow times (B,) or (1,) → (B, H, expert width), float32."""
        when = sinusoid(time, self.expert.width, self.config.min_period, self.config.max_period)
        actions = through(self.action_in_proj, chunk)
        return mixed_with_time(actions, when, self.action_time_mlp_in, self.action_time_mlp_out)
