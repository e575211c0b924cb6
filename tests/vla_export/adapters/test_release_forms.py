"""Every core of LoRA-SP's release, from its tensors to an output, against loops written from its formulas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.naive_adapters import lora_sp, mixture, release_gates, times
from vla_export.adapters.formula import formula
from vla_export.adapters.gating import Routing, Semantics
from vla_export.adapters.release_config import AdaLoRAConfig, LoRAConfig, LoRAMoEConfig, LoRASPConfig, ReleaseConfig
from vla_export.adapters.release_forms import form_of, tensor_names, update_of
from vla_runtime.errors import BadInput

PATH = Path("adapters.safetensors")
ROUTINGS: tuple[Routing, ...] = ("weighted", "top1", "top2")
SIZES = {
    "n_in": st.integers(1, 6),
    "n_out": st.integers(1, 5),
    "r": st.integers(1, 4),
    "experts": st.integers(2, 4),
    "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
    "seed": st.integers(0, 2**16),
}


def draw(seed: int, dtype: torch.dtype, **shapes: tuple[int, ...]) -> dict[str, Tensor]:
    """Small whole numbers: exact in bfloat16, and ties are common."""
    generator = torch.Generator().manual_seed(seed)
    names = {"router": "router.weight"}
    return {
        names.get(name, name): torch.randint(-2, 3, shape, generator=generator).to(dtype)
        for name, shape in shapes.items()
    }


def outputs(parts: dict[str, Tensor], config: ReleaseConfig, x: Tensor) -> Tensor:
    """What the update gives for x (tokens, in)."""
    update = update_of(PATH, "module", parts, config)
    result = torch.zeros(())
    for fixed in update.fixed:
        result = result + x @ fixed.A.float().T @ fixed.B.T
    if update.branch is not None:
        branch = update.branch
        result = result + ((x @ branch.A.float().T) * branch.gating(x @ branch.router.float().T)) @ branch.B.T
    return result


def tokens(n_in: int, seed: int) -> Tensor:
    return torch.randint(-2, 3, (4, n_in), generator=torch.Generator().manual_seed(seed + 1)).float()


@settings(deadline=None)
@given(
    threshold=st.sampled_from([0.25, 0.5, 0.75, 0.875]),
    semantics=st.sampled_from(["released", "paper"]),
    **SIZES,
)
def test_lora_sp(
    n_in: int,
    n_out: int,
    r: int,
    experts: int,
    dtype: torch.dtype,
    seed: int,
    threshold: float,
    semantics: Semantics,
) -> None:
    bank, x = r * experts, tokens(n_in, seed)
    parts = draw(seed, dtype, A=(bank, n_in), B=(n_out, bank), router=(bank, n_in))
    parts["B"][0, 0] = 1
    config = LoRASPConfig(r=r, alpha=3.0, num_experts=experts, threshold=threshold, semantics=semantics)
    A, B, R = (parts[name].tolist() for name in ("A", "B", "router.weight"))
    expected = [lora_sp(t, A, B, times(R, t), 3.0 / r, threshold, semantics) for t in x.tolist()]
    torch.testing.assert_close(outputs(parts, config, x), torch.tensor(expected), rtol=1e-5, atol=1e-4)


@settings(deadline=None)
@given(routing=st.sampled_from(ROUTINGS), **SIZES)
def test_lora_moe(n_in: int, n_out: int, r: int, experts: int, dtype: torch.dtype, seed: int, routing: Routing) -> None:
    x = tokens(n_in, seed)
    parts = draw(seed, dtype, A=(experts, r, n_in), B=(experts, n_out, r), router=(experts, n_in))
    config = LoRAMoEConfig(r=r, alpha=3.0, num_experts=experts, routing=routing)
    A, B, R = (parts[name].tolist() for name in ("A", "B", "router.weight"))
    expected = [mixture(t, A, B, R, 3.0 / r, routing) for t in x.tolist()]
    torch.testing.assert_close(outputs(parts, config, x), torch.tensor(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("semantics", ["released", "paper"])
@pytest.mark.parametrize("seed", range(3))
def test_lora_sp_with_a_projected_router(routing: Routing, semantics: Semantics, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"A": (6, 5), "B": (4, 6), "router.weight": (3, 5), "router_proj": (6, 3)}
    parts = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    config = LoRASPConfig(
        r=2, alpha=3.0, num_experts=3, threshold=0.7, semantics=semantics, router_projection=True, routing=routing
    )
    x = torch.randn((12, 5), generator=generator)
    branch = update_of(PATH, "module", parts, config).branch
    assert branch is not None
    assert formula(x, branch)[1].min() > 1e-5, "a token on the threshold: take another seed"
    A, B, R, P = (parts[name].tolist() for name in shapes)
    expected = [
        lora_sp(t, A, B, times(P, release_gates(times(R, t), routing)), 1.5, 0.7, semantics) for t in x.tolist()
    ]
    torch.testing.assert_close(outputs(parts, config, x), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(**SIZES)
def test_lora_and_adalora(n_in: int, n_out: int, r: int, experts: int, dtype: torch.dtype, seed: int) -> None:
    x = tokens(n_in, seed)
    parts = draw(seed, dtype, A=(r, n_in), B=(n_out, r), E=(r, 1))
    A, B, E = (parts[name].tolist() for name in ("A", "B", "E"))
    down = [times(A, t) for t in x.tolist()]
    plain = [[3.0 / r * y for y in times(B, d)] for d in down]
    torch.testing.assert_close(outputs(parts, LoRAConfig(r=r, alpha=3.0), x), torch.tensor(plain))
    scaled = [[3.0 / r * y for y in times(B, [v * e[0] for v, e in zip(d, E, strict=True)])] for d in down]
    torch.testing.assert_close(outputs(parts, AdaLoRAConfig(r=r, alpha=3.0), x), torch.tensor(scaled))


CONFIGS: list[tuple[ReleaseConfig, dict[str, tuple[int, ...]]]] = [
    (LoRAConfig(r=2, alpha=4.0), {"A": (2, 5), "B": (4, 2)}),
    (AdaLoRAConfig(r=2, alpha=4.0), {"A": (2, 5), "B": (4, 2), "E": (2, 1)}),
    (
        LoRAMoEConfig(r=2, alpha=4.0, num_experts=3),
        {"A": (3, 2, 5), "B": (3, 4, 2), "router.weight": (3, 5)},
    ),
    (
        LoRASPConfig(r=2, alpha=4.0, num_experts=3, router_projection=True),
        {"A": (6, 5), "B": (4, 6), "router.weight": (3, 5), "router_proj": (6, 3)},
    ),
]


@pytest.mark.parametrize(("config", "shapes"), CONFIGS)
def test_every_tensor_is_needed_in_its_shape(config: ReleaseConfig, shapes: dict[str, tuple[int, ...]]) -> None:
    parts = {name: torch.ones(shape) for name, shape in shapes.items()}
    assert set(tensor_names(config)) == set(shapes)
    assert form_of(config)
    update_of(PATH, "module", parts, config)
    for name, shape in shapes.items():
        without = {other: tensor for other, tensor in parts.items() if other != name}
        with pytest.raises(BadInput, match=rf"module\.{name} missing"):
            update_of(PATH, "module", without, config)
        with pytest.raises(BadInput, match=rf"module\.{name} has shape .* expected"):
            update_of(PATH, "module", {**parts, name: torch.ones(*shape[:-1], shape[-1] + 1, 1)}, config)


def test_a_rank_other_than_the_configurations_says_why_that_may_be() -> None:
    parts = {"A": torch.ones(8, 5), "B": torch.ones(4, 8)}
    with pytest.raises(BadInput, match=r"expected \(128, in\), as r 128 make it .*trains r 8, alpha 16"):
        update_of(PATH, "module", parts, LoRAConfig(r=128, alpha=256))


def test_two_of_one_expert_are_refused() -> None:
    parts = {"A": torch.ones(1, 2, 5), "B": torch.ones(1, 4, 2), "router.weight": torch.ones(1, 5)}
    with pytest.raises(BadInput, match="top2 needs two experts"):
        update_of(PATH, "module", parts, LoRAMoEConfig(r=2, alpha=4.0, num_experts=1, routing="top2"))
