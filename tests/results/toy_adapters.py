"""A π0 small enough to train in a test, a batch for it, and a few steps of training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from reference.architecture import untrained
from reference.checkpoint import Statistics, Words, write_policy
from reference.learner import flow_loss
from reference.vocabulary import LIMIT, word_tokenizer
from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.stem import StemSize

CONFIG = Pi0Config(
    vision=StemSize(channels=(8,), width=24),
    language=StackSize(depth=2, width=24, mlp=32, heads=2, kv_heads=1, head_dim=8),
    expert=StackSize(depth=2, width=16, mlp=24, heads=2, kv_heads=1, head_dim=8),
    vocabulary=word_tokenizer().get_vocab_size(),
    image_size=8,
    horizon=16,
    state_width=7,
    action_width=7,
)
STATISTICS = Statistics(
    state_mean=torch.linspace(-0.1, 0.1, 7),
    state_std=torch.linspace(0.5, 1.0, 7),
    action_mean=torch.linspace(-0.2, 0.2, 7),
    action_std=torch.linspace(0.2, 1.1, 7),
)
BATCH = 3
LINEARS = 7 * (CONFIG.language.depth + CONFIG.expert.depth)


def toy() -> Pi0:
    return untrained(CONFIG, torch.Generator().manual_seed(0)).eval().requires_grad_(False)


def write_toy(directory: Path, model: Pi0) -> Path:
    directory.mkdir()
    write_policy(directory, model, STATISTICS, Words(word_tokenizer(), LIMIT), flow_steps=2)
    return directory


def observed(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.rand(2 * BATCH, 3, 8, 8, generator=generator) * 2 - 1,
        "tokens": torch.randint(0, CONFIG.vocabulary, (BATCH, LIMIT), generator=generator).int(),
        "token_mask": torch.arange(LIMIT)[None].repeat(BATCH, 1) < 6,
        "state": torch.randn(BATCH, 7, generator=generator),
    }


def flow(model: Pi0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chunk = torch.randn(BATCH, CONFIG.horizon, CONFIG.action_width, generator=generator)
    return flow_loss(model, model.encode(observed(seed)), chunk, generator)


@torch.no_grad()
def velocity(model: Pi0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 100)
    chunk = torch.randn(BATCH, CONFIG.horizon, CONFIG.action_width, generator=generator)
    time = torch.rand(BATCH, generator=generator)
    return model.velocity(chunk, time, model.encode(observed(seed)))


def train(model: Pi0, extra_loss: Callable[[Pi0], Tensor], steps: int = 5, rate: float = 0.01) -> None:
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    for step in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(flow(model, step) + extra_loss(model))
        optimiser.step()


def parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
