"""A π0 of two layers, its bundle in both precisions, and the samples they are compared on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.toy_policy import ACTION, CONFIG
from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.graph.goldens import make_goldens
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.pi0 import Pi0
from vla_export.sample import Sample
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import write_golden
from vla_runtime.bundle.manifest import Camera, Manifest, Precision, Provenance, Tokenizer
from vla_runtime.bundle.writing import BundleWriter

FLOW_STEPS = 10
BOTH: tuple[Precision, Precision] = ("fp32", "fp16")


@dataclass(frozen=True)
class Exported:
    """A policy, what it was exported on, what it is judged on, and its bundle."""

    model: Pi0
    samples: list[Sample]
    bundle: Bundle


def random_policy(seed: int = 0) -> Pi0:
    """Weights are drawn so that every layer changes the residual stream by about its own size."""
    generator = torch.Generator().manual_seed(seed)
    config = replace(CONFIG, **{name: replace(getattr(CONFIG, name), depth=2) for name in ("language", "expert")})
    model = Pi0(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 10
        parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    return model


def random_samples(count: int, seed: int = 0) -> list[Sample]:
    """Two cameras and tasks of different lengths, padded to four tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Sample(
            observed={
                "images": torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1,
                "tokens": torch.randint(0, 40, (1, 4), generator=generator).int(),
                "token_mask": torch.arange(4)[None] < 4 - n % 4,
                "state": torch.randn(1, 8, generator=generator),
            },
            noise=torch.randn(1, 5, 8, generator=generator),
        )
        for n in range(count)
    ]


def route(model: Pi0, seed: int = 0) -> Pi0:
    """Put a LoRA-SP branch on every linear of the expert stack, which both graphs hold.

    Together they move the actions by 5 to 8 %. Selection is a step: an adapter several times as strong turns
    rounding into another choice of directions, whatever computes it.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in model.expert:
        for part in (layer.attention, layer.mlp):
            for name, linear in list(part.named_children()):
                if isinstance(linear, nn.Linear):
                    setattr(part, name, RoutedLinear(linear, _branch(linear, generator)))
    return model


def _branch(linear: nn.Linear, generator: torch.Generator) -> Branch:
    bank, scale = 6, 2.0

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.1

    A, B = draw(bank, linear.in_features), draw(linear.out_features, bank) * scale
    return Branch(A, B, draw(bank, linear.in_features), EnergyGating(bank, 0.7, "released"))


def export(model: Pi0, directory: Path, precisions: tuple[Precision, ...] = BOTH) -> Exported:
    """A whole bundle; the graphs are traced on one sample and judged on others."""
    traced_on, *samples = random_samples(4)
    exported = copy.deepcopy(model)  # fp16 graphs leave a half model behind
    with BundleWriter(directory) as writer:
        graphs = {p: export_graphs(exported, traced_on, writer.root, p) for p in precisions}
        write_golden(writer.root / "golden.safetensors", make_goldens(model, samples, FLOW_STEPS))
        (writer.root / "tokenizer.json").write_text("{}")
        bundle = writer.finish(
            lambda files: Manifest(
                family="pi0",
                cameras=tuple(Camera(name=name, height=8, width=8) for name in ("side", "wrist")),
                state=ACTION,
                action=ACTION,
                horizon=5,
                rate=10.0,
                flow_steps=FLOW_STEPS,
                tokenizer=Tokenizer(file="tokenizer.json", max_length=4, pad_id=0),
                graphs=graphs,
                provenance=Provenance(exporter="test", checkpoint="test", checkpoint_sha256="0" * 64),
                files=files,
            )
        )
    return Exported(model, samples, bundle)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A plain π0."""
    return export(random_policy(), tmp_path_factory.mktemp("plain") / "bundle")


@pytest.fixture(scope="session")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The same with a LoRA-SP branch on every linear of the expert."""
    return export(route(random_policy()), tmp_path_factory.mktemp("routed") / "bundle")
