"""The routed linear against loops over tokens and directions, and through ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vla_export.adapters.lora_sp import LoRASPBranch, LoRASPConfig, Semantics
from vla_export.adapters.routed_linear import RoutedLinear, kept_directions
from vla_export.models.blocks import linear_dtype

SEMANTICS: tuple[Semantics, ...] = ("released", "paper")


def kept_by_loop(scores: list[float], threshold: float, semantics: Semantics) -> set[int]:
    """The kept directions of one token; ``sorted`` is stable, so of equal scores the lower index comes first."""
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    total = sum(s * s for s in scores)
    kept = {order[0]}
    energy = scores[order[0]] ** 2
    for n in order[1:]:
        if semantics == "paper" and energy >= threshold * total:
            break
        energy += scores[n] ** 2
        if semantics == "released" and energy > threshold * total:
            break
        kept.add(n)
    return kept


def output_by_loop(x: list[float], base: nn.Linear, branch: LoRASPBranch, config: LoRASPConfig) -> list[float]:
    """y of one token, one number at a time, in Python's double precision."""
    A, B, R, W = (t.tolist() for t in (branch.A, branch.B, branch.router, base.weight))
    bias = base.bias.tolist() if base.bias is not None else [0.0] * len(W)
    scores = [sum(r * v for r, v in zip(row, x, strict=True)) for row in R]
    if config.semantics == "paper":
        scores = [max(s, 0.0) for s in scores]
    kept = kept_by_loop(scores, config.threshold, config.semantics)
    gated = {n: sum(a * v for a, v in zip(A[n], x, strict=True)) * scores[n] for n in kept}
    return [
        sum(w * v for w, v in zip(W[o], x, strict=True))
        + bias[o]
        + config.alpha / config.r * sum(B[o][n] * g for n, g in gated.items())
        for o in range(len(W))
    ]


def make(
    n_in: int, n_out: int, r: int, experts: int, threshold: float, semantics: Semantics, bias: bool, seed: int = 0
) -> tuple[nn.Linear, LoRASPBranch, LoRASPConfig]:
    generator = torch.Generator().manual_seed(seed)
    bank = r * experts

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.5

    base = nn.Linear(n_in, n_out, bias=bias).requires_grad_(False)
    base.weight.copy_(draw(n_out, n_in))
    if bias:
        base.bias.copy_(draw(n_out))
    config = LoRASPConfig(
        method="lora_sp", r=r, alpha=2.0 * r, num_experts=experts, threshold=threshold, semantics=semantics
    )
    return base, LoRASPBranch(draw(bank, n_in), draw(n_out, bank), draw(bank, n_in)), config


@settings(deadline=None)
@given(
    n_in=st.integers(1, 6),
    n_out=st.integers(1, 5),
    r=st.integers(1, 4),
    experts=st.integers(1, 4),
    tokens=st.integers(1, 5),
    # Whole numbers and binary fractions: every sum is exact, so ties and sums that meet the threshold do happen.
    threshold=st.sampled_from([0.25, 0.5, 0.75, 0.875, 1.0]),
    semantics=st.sampled_from(SEMANTICS),
    bias=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_equals_the_loops_ties_and_negative_scores_included(
    n_in: int,
    n_out: int,
    r: int,
    experts: int,
    tokens: int,
    threshold: float,
    semantics: Semantics,
    bias: bool,
    seed: int,
) -> None:
    base, _, config = make(n_in, n_out, r, experts, threshold, semantics, bias)
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).float()

    base.weight.copy_(whole(n_out, n_in))
    branch = LoRASPBranch(whole(config.bank, n_in), whole(n_out, config.bank), whole(config.bank, n_in))
    x = whole(1, tokens, n_in)
    y = RoutedLinear(base, branch, config)(x)
    expected = [output_by_loop(token.tolist(), base, branch, config) for token in x[0]]
    torch.testing.assert_close(y[0], torch.tensor(expected), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loops_on_real_numbers(semantics: Semantics, seed: int) -> None:
    base, branch, config = make(12, 9, 4, 8, 0.9, semantics, True, seed)
    x = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(seed))
    y = RoutedLinear(base, branch, config)(x)
    expected = torch.tensor([output_by_loop(t.tolist(), base, branch, config) for t in x.reshape(-1, 12)])
    torch.testing.assert_close(y.reshape(-1, 9), expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None)
@given(
    # Numbers bfloat16 holds exactly, with few distinct values so that ties are common.
    scores=st.lists(st.sampled_from([-3.0, -1.5, -1.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 0.875, 1.0]),
)
def test_released_selection_keeps_what_sorting_and_summing_keeps(scores: list[float], threshold: float) -> None:
    keep = kept_directions(torch.tensor([scores]), threshold, "released")[0]
    assert set(keep.nonzero().flatten().tolist()) == kept_by_loop(scores, threshold, "released")


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12).filter(any),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_paper_selection_is_the_smallest_set_that_reaches_the_threshold(scores: list[float], threshold: float) -> None:
    keep = kept_directions(torch.tensor([scores]), threshold, "paper")[0]
    energies = sorted((s * s for s in scores), reverse=True)
    smallest = next(k for k in range(1, len(scores) + 1) if sum(energies[:k]) >= threshold * sum(energies))
    assert int(keep.sum()) == smallest
    assert sum(s * s for s, k in zip(scores, keep.tolist(), strict=True) if k) >= threshold * sum(energies)


def test_the_two_semantics_differ_by_the_direction_that_crosses_the_threshold() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0]])  # squared and sorted: 9, 4, 1 of 14
    assert kept_directions(scores, 0.8, "released").tolist() == [[True, False, False]]
    assert kept_directions(scores, 0.8, "paper").tolist() == [[True, False, True]]


def test_of_equal_scores_the_first_are_kept() -> None:
    assert kept_directions(torch.ones(1, 4), 0.5, "released").tolist() == [[True, True, False, False]]


def test_released_selection_goes_by_sign_and_always_keeps_one() -> None:
    scores = torch.tensor([[-10.0, 0.1, -0.2]])
    assert kept_directions(scores, 0.5, "released").tolist() == [[False, True, True]]
    assert kept_directions(torch.tensor([[5.0, -0.1]]), 0.5, "released").tolist() == [[True, False]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, semantics: Semantics) -> None:
    """Whole scores leave no doubt about the selection; everything else is rounded to ``dtype``."""
    base, branch, config = make(8, 6, 2, 4, 0.9, semantics, True)
    generator = torch.Generator().manual_seed(3)
    router = torch.randint(-2, 3, (config.bank, 8), generator=generator).float()
    branch = LoRASPBranch(branch.A, branch.B, router)
    x = torch.randint(-2, 3, (1, 5, 8), generator=generator).float()

    exact = RoutedLinear(base, branch, config)
    y = RoutedLinear(base, branch, config).to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    update = config.scale * branch.B.abs() @ ((x[0] @ branch.A.T).abs() * (x[0] @ router.T).abs()).T
    largest = (x[0].abs() @ base.weight.abs().T + update.T).max() + 1.0
    error = (y.float() - exact(x)).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps * largest
    assert linear_dtype(exact) == torch.float32
    assert linear_dtype(exact.to(dtype)) == dtype


def export(module: nn.Module, x: Tensor) -> bytes:
    program = torch.onnx.export(
        module, (x,), dynamo=True, opset_version=18, input_names=["x"], output_names=["y"], verbose=False
    )
    assert program is not None
    matmuls = [node.op_type for node in program.model_proto.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(matmuls) == 2, "the branch must cost one product fused with the base's and one thin one"
    graph: bytes = program.model_proto.SerializeToString()
    return graph


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_onnx_runtime_computes_the_same(semantics: Semantics) -> None:
    base, branch, config = make(12, 9, 4, 4, 0.9, semantics, True)
    module = RoutedLinear(base, branch, config).eval()
    x = torch.randn(1, 7, 12, generator=torch.Generator().manual_seed(1))
    x[0, 3] = 0.0  # every score the same
    (y,) = onnxruntime.InferenceSession(export(module, x)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, module(x).numpy(), rtol=1e-5, atol=1e-5)


def test_onnx_runtime_breaks_ties_the_same_way() -> None:
    base, branch, config = make(4, 3, 2, 4, 0.5, "released", False)
    router = torch.tensor([[1.0, -2.0, 0.0, 1.0]]).expand(8, 4).clone()
    branch = LoRASPBranch(branch.A, branch.B, router)
    module = RoutedLinear(base, branch, config).eval()
    x = torch.randint(-2, 3, (1, 6, 4), generator=torch.Generator().manual_seed(1)).float()
    (y,) = onnxruntime.InferenceSession(export(module, x)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, module(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_tensorrt_rtx_builds_the_graph(dtype: torch.dtype, semantics: Semantics) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed; it builds engines without a GPU")
    base, branch, config = make(12, 9, 4, 4, 0.9, semantics, True)
    graph = export(RoutedLinear(base, branch, config).to(dtype).eval(), torch.randn(1, 7, 12, dtype=dtype))

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), [parser.get_error(n).desc() for n in range(parser.num_errors)]
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None
