"""The policies that `benchmarks.merge` compares: one random policy with an adapter planted on it, merged in every way.

Trained banks concentrate: LoRA-SP's use 12 to 14 of 128 directions per token (arXiv 2603.07404). Random ones do not, so
that concentration is planted. In every bank direction i has size σ_i, in random order, and scores about σ_i (1 + ε) on
the policy's own inputs; ε is normal, its standard deviation a third for the input that is farthest from the mean. So
tokens use much the same directions. How many are ever used, and so are left of a bank, depends on how σ falls, which is
not published; see `DECAYS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.random_policy import ACTION, FLOW_STEPS, random_policy, random_sample
from vla_export.adapters.adapter import Adapter, Branch, LinearUpdate
from vla_export.adapters.exact_merge import merge_exact
from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.least_squares import Affine
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import routed_linears
from vla_export.adapters.static_linear import folded, replace
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig
from vla_export.observations import Observations
from vla_export.prune.cost import cost, total
from vla_export.sample import Sample, sample_actions

BANK = 128
THRESHOLD = 0.9
Decay = Literal["exponential", "power law"]
_INDEX = torch.arange(BANK, dtype=torch.float32)
DECAYS: Mapping[Decay, Tensor] = {"exponential": (-_INDEX / 12).exp(), "power law": (1 + _INDEX) ** -0.83}
"""σ, chosen for a mean active rank of 12 to 14; the second has the longer tail."""
Variant = Literal["no adapter", "static", "exact", "exact, cut, exponential", "exact, cut, power law"]
VARIANTS: Mapping[Variant, Decay | None] = {
    "no adapter": None,
    "static": None,
    "exact": None,
    "exact, cut, exponential": "exponential",
    "exact, cut, power law": "power law",
}
"""With the decay of those whose banks are cut."""

_TRAINING = 1000  # number of the first sample that branches are made from; no other part sees those
_NOISE = 1 / 3
_TOKENS = 128  # of each linear, each time it runs: enough to find what its inputs share
_RIDGE = 1e-2


@dataclass(frozen=True)
class Setting:
    """The policy's size, and how many samples merging fits to, chooses by and is judged by."""

    config: SmolVLAConfig
    cameras: int
    calibration: int
    choosing: int
    held_out: int

    def observations(self) -> Observations:
        calibration = self.samples(0, self.calibration)
        choosing = self.samples(self.calibration, self.choosing)
        held_out = self.samples(self.calibration + self.choosing, self.held_out)
        return Observations(calibration, choosing, held_out, source="random", synthetic=True)

    def samples(self, first: int, count: int) -> list[Sample]:
        return [random_sample(self.config, self.cameras, first + n) for n in range(count)]


@dataclass(frozen=True)
class Cut:
    """What cutting left of the banks; means over all tokens.

    mean_rank: directions used per token. kept: directions left, of ``BANK``. whole: linears that lost none, of
    ``linears``. missed: share of held-out tokens that needed more than is left. error: what the cut does to the
    actions, RMS of the worst dimension, as a share of its scale.
    """

    mean_rank: float
    kept: float
    whole: int
    linears: int
    missed: float
    error: float


@dataclass(frozen=True)
class Contestant:
    """FLOPs per chunk: linear_flops of all linears, flops of all matrix products and convolutions."""

    linear_flops: float
    flops: float
    cut: Cut | None = None


def routed_policy(setting: Setting, decay: Decay = "exponential") -> SmolVLA:
    """The random policy with a planted branch on every linear, whole banks."""
    model = random_policy(SmolVLA, setting.config)
    for path, branch in planted(model, setting, decay).items():
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        replace(model, path, RoutedLinear(linear, branch))
    return model


def planted(model: SmolVLA, setting: Setting, decay: Decay) -> dict[str, Branch]:
    """A branch for every linear, by path; each adds about a tenth of the linear's own output."""
    generator = torch.Generator().manual_seed(1)
    with _inputs(model, generator) as inputs:
        for sample in setting.samples(_TRAINING, 2):
            sample_actions(model, sample, FLOW_STEPS)
    branches = {}
    for path, seen in inputs.items():
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        branches[path] = _branch(linear, torch.cat(seen), DECAYS[decay], generator)
    return branches


def _branch(linear: nn.Linear, x: Tensor, sizes: Tensor, generator: torch.Generator) -> Branch:
    """x: some of the linear's inputs, (tokens, in)."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    sizes = sizes[torch.randperm(BANK, generator=generator)]
    # The row that gives 1 for every token, as nearly as a ridge lets it: of the two forms, that of tokens is smaller.
    products = x @ x.T
    ridge = _RIDGE * products.trace() / len(x) * torch.eye(len(x))
    shared = torch.linalg.solve(products + ridge, torch.ones(len(x))) @ x
    mean = x.mean(0)
    spread = (x - mean).norm(dim=1).max().clamp(min=float(mean.norm()) / 10)
    noise = draw(BANK, linear.in_features)
    noise -= torch.outer(noise @ mean, mean) / mean.square().sum()  # what every token shares is no noise
    return Branch(
        A=draw(BANK, linear.in_features) * linear.in_features**-0.5,
        B=draw(linear.out_features, BANK) * 0.1 / float(sizes.norm()),
        router=sizes[:, None] * (shared + _NOISE / spread * noise),
        gating=EnergyGating(BANK, THRESHOLD, "released"),
    )


@contextmanager
def _inputs(model: SmolVLA, generator: torch.Generator) -> Iterator[Mapping[str, list[Tensor]]]:
    """While the context lasts, some of what every linear reads, by path; each (tokens, in)."""
    found: dict[str, list[Tensor]] = {}

    def see(path: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].reshape(-1, args[0].shape[-1])
        found.setdefault(path, []).append(x[torch.randperm(len(x), generator=generator)[:_TOKENS]])

    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    handles = [linear.register_forward_pre_hook(partial(see, path)) for path, linear in linears.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def export_contestant(setting: Setting, variant: Variant, directory: Path) -> Contestant:
    """Write a policy's two graphs."""
    decay = VARIANTS[variant]
    model, cut = _cut(setting, decay) if decay is not None else (_uncut(setting, variant), None)
    (sample,) = setting.samples(0, 1)
    export_graphs(model, sample, directory)
    return Contestant(
        linear_flops=_linear_flops(model, sample),
        flops=total(cost(model, sample, FLOW_STEPS).values()).flops_chunk,
        cut=cut,
    )


def _uncut(setting: Setting, variant: Variant) -> SmolVLA:
    if variant == "no adapter":
        return random_policy(SmolVLA, setting.config)
    model = routed_policy(setting)
    if variant == "static":
        for path, linear in routed_linears(model).items():
            nothing = Affine(torch.zeros(BANK, linear.in_features), torch.zeros(BANK))
            replace(model, path, folded(path, linear, nothing))
    return model


def _cut(setting: Setting, decay: Decay) -> tuple[SmolVLA, Cut]:
    """As ``--merge exact`` leaves it, whatever that does to the actions: of a random policy, those decide nothing."""
    model = random_policy(SmolVLA, setting.config)
    branches = planted(model, setting, decay)
    adapter = Adapter(Path(), "planted", {path: LinearUpdate(branch=branch) for path, branch in branches.items()})
    observations = setting.observations()
    report = merge_exact(
        model,
        adapter,
        {path: path for path in branches},
        observations.held_out,
        FLOW_STEPS,
        ACTION,
        observations.calibration,
        observations.choosing,
        budget=math.inf,
    ).report
    layers = report.layers
    tokens = sum(layer.tokens for layer in layers)
    return model, Cut(
        mean_rank=sum(layer.tokens * layer.mean_rank for layer in layers) / tokens,
        kept=sum(layer.tokens * layer.kept for layer in layers) / tokens,
        whole=sum(layer.kept == BANK for layer in layers),
        linears=len(layers),
        missed=sum(layer.missed for layer in layers) / tokens,
        error=max(error.rms for error in report.errors),
    )


def _linear_flops(model: SmolVLA, sample: Sample) -> float:
    flops = 0.0

    def count(linear: nn.Linear, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flops
        flops += 2.0 * output.numel() * linear.in_features

    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Linear)]
    sample_actions(model, sample, FLOW_STEPS)
    for handle in handles:
        handle.remove()
    return flops
