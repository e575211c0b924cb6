"""The routed linear against loops over tokens and directions, and through ONNX."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.naive_adapters import lora_sp, times
from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import (
    EnergyGating,
    ExpertGating,
    Gating,
    ProjectedGating,
    Semantics,
    release_experts,
)
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.linears import linear_dtype
from vla_runtime.errors import WorkFailed

SEMANTICS: tuple[Semantics, ...] = ("released", "paper")


def output_by_loop(x: list[float], base: nn.Linear, branch: Branch) -> list[float]:
    """y of one token, one number at a time, in Python's double precision."""
    assert isinstance(branch.gating, EnergyGating)
    A, B, R, W = (t.tolist() for t in (branch.A, branch.B, branch.router, base.weight))
    bias = base.bias.tolist() if base.bias is not None else [0.0] * len(W)
    update = lora_sp(x, A, B, times(R, x), 1.0, branch.gating.threshold, branch.gating.semantics)
    return [w + b + u for w, b, u in zip(times(W, x), bias, update, strict=True)]


def make(
    n_in: int, n_out: int, bank: int, gating: Gating, bias: bool = True, seed: int = 0
) -> tuple[nn.Linear, Branch]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.5

    base = nn.Linear(n_in, n_out, bias=bias).requires_grad_(False)
    base.weight.copy_(draw(n_out, n_in))
    if bias:
        base.bias.copy_(draw(n_out))
    return base, Branch(draw(bank, n_in), draw(n_out, bank), draw(gating.scores, n_in), gating)


def gatings(bank: int) -> dict[str, Gating]:
    """One of each kind, for a bank of four experts."""
    projection = torch.randn((bank, 4), generator=torch.Generator().manual_seed(5))
    energy = EnergyGating(bank, 0.8, "released")
    return {
        "released": energy,
        "paper": EnergyGating(bank, 0.8, "paper"),
        "cut": EnergyGating(bank, 0.8, "released", silent=3, most=5),
        "experts": ExpertGating([bank - 6, 3, 2, 1], 2),
        "one expert": release_experts(4, bank // 4, "top1"),
        "projected": ProjectedGating(release_experts(4, bank // 4, "top2"), projection, energy),
    }


@settings(deadline=None)
@given(
    n_in=st.integers(1, 6),
    n_out=st.integers(1, 5),
    bank=st.integers(1, 16),
    tokens=st.integers(1, 5),
    # Whole numbers and binary fractions: every sum is exact, so ties and sums that meet the threshold do happen.
    threshold=st.sampled_from([0.25, 0.5, 0.75, 0.875, 1.0]),
    semantics=st.sampled_from(SEMANTICS),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_equals_the_loops_ties_and_negative_scores_included(
    n_in: int,
    n_out: int,
    bank: int,
    tokens: int,
    threshold: float,
    semantics: Semantics,
    bias: bool,
    dtype: torch.dtype,
    seed: int,
) -> None:
    base, _ = make(n_in, n_out, bank, EnergyGating(bank, threshold, semantics), bias)
    generator = torch.Generator().manual_seed(seed)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-2, 3, shape, generator=generator).float()

    base.weight.copy_(whole(n_out, n_in))
    if bias:
        base.bias.copy_(whole(n_out))
    gating = EnergyGating(bank, threshold, semantics)
    branch = Branch(whole(bank, n_in), whole(n_out, bank), whole(bank, n_in), gating)
    x = whole(1, tokens, n_in)
    expected = torch.tensor([output_by_loop(token.tolist(), base, branch) for token in x[0]])
    y = RoutedLinear(base.to(dtype), branch)(x.to(dtype))
    assert y.dtype == dtype
    # In bfloat16 the scores are exact, and so the selection; the rest is rounded three times.
    relative = 1e-5 if dtype == torch.float32 else 3 * torch.finfo(dtype).eps
    torch.testing.assert_close(y[0].float(), expected, rtol=relative, atol=relative * float(expected.abs().max() + 10))


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loops_on_real_numbers(semantics: Semantics, seed: int) -> None:
    base, branch = make(12, 9, 32, EnergyGating(32, 0.9, semantics), seed=seed)
    x = torch.randn(2, 6, 12, generator=torch.Generator().manual_seed(seed))
    y = RoutedLinear(base, branch)(x)
    expected = torch.tensor([output_by_loop(t.tolist(), base, branch) for t in x.reshape(-1, 12)])
    torch.testing.assert_close(y.reshape(-1, 9), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, semantics: Semantics) -> None:
    """Whole scores leave no doubt about the selection; everything else is rounded to ``dtype``."""
    base, branch = make(8, 6, 8, EnergyGating(8, 0.9, semantics))
    generator = torch.Generator().manual_seed(3)
    router = torch.randint(-2, 3, (8, 8), generator=generator).float()
    branch = Branch(branch.A, branch.B, router, branch.gating)
    x = torch.randint(-2, 3, (1, 5, 8), generator=generator).float()

    exact = RoutedLinear(base, branch)
    y = RoutedLinear(base, branch).to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    update = branch.B.abs() @ ((x[0] @ branch.A.T).abs() * (x[0] @ router.T).abs()).T
    largest = (x[0].abs() @ base.weight.abs().T + update.T).max() + 1.0
    error = (y.float() - exact(x)).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps * largest
    assert linear_dtype(exact) == torch.float32
    assert linear_dtype(exact.to(dtype)) == dtype


def test_a_branch_that_half_precision_cannot_hold_is_named() -> None:
    base, branch = make(4, 3, 2, EnergyGating(2, 0.9, "released"))
    with pytest.raises(WorkFailed, match="adapter's B reaches 1e\\+06"):
        RoutedLinear(base.half(), Branch(branch.A, torch.full((3, 2), 1e6), branch.router, branch.gating))


@pytest.mark.parametrize("bias", [True, False])
def test_base_and_branch_are_what_went_in(bias: bool) -> None:
    base, branch = make(5, 4, 8, gatings(8)["experts"], bias)
    linear = RoutedLinear(base, branch)
    assert torch.equal(linear.base.weight, base.weight)
    assert linear.base.bias is None if not bias else torch.equal(linear.base.bias, base.bias)
    for name in ("A", "B", "router"):
        assert torch.equal(getattr(linear.branch, name), getattr(branch, name))
    assert linear.branch.A.untyped_storage().data_ptr() == linear.down.weight.untyped_storage().data_ptr()
    assert linear.base.weight.data_ptr() == base.weight.data_ptr()


def export(module: nn.Module, x: Tensor, thin: int = 1) -> bytes:
    program = torch.onnx.export(
        module, (x,), dynamo=True, opset_version=18, input_names=["x"], output_names=["y"], verbose=False
    )
    assert program is not None
    matmuls = [node.op_type for node in program.model_proto.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(matmuls) == 2 + thin, "the branch must cost one product with A and R stacked, and thin ones"
    graph: bytes = program.model_proto.SerializeToString()
    return graph


@pytest.mark.parametrize("kind", gatings(16))
def test_onnx_runtime_computes_the_same(kind: str) -> None:
    base, branch = make(12, 9, 16, gatings(16)[kind])
    module = RoutedLinear(base, branch).eval()
    x = torch.randn(1, 7, 12, generator=torch.Generator().manual_seed(1))
    x[0, 3] = 0.0  # every score the same
    graph = export(module, x, thin=2 if kind == "projected" else 1)
    (y,) = onnxruntime.InferenceSession(graph).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, module(x).numpy(), rtol=1e-5, atol=1e-5)


def test_onnx_runtime_breaks_ties_the_same_way() -> None:
    base, branch = make(4, 3, 8, EnergyGating(8, 0.5, "released"), False)
    router = torch.tensor([[1.0, -2.0, 0.0, 1.0]]).expand(8, 4).clone()
    module = RoutedLinear(base, Branch(branch.A, branch.B, router, branch.gating)).eval()
    x = torch.randint(-2, 3, (1, 6, 4), generator=torch.Generator().manual_seed(1)).float()
    (y,) = onnxruntime.InferenceSession(export(module, x)).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, module(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", gatings(16))
def test_tensorrt_rtx_builds_the_graph(dtype: torch.dtype, kind: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed; it builds engines without a GPU")
    base, branch = make(12, 9, 16, gatings(16)[kind])
    module = RoutedLinear(base, branch).to(dtype).eval()
    graph = export(module, torch.randn(1, 7, 12, dtype=dtype), thin=2 if kind == "projected" else 1)

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(graph), [parser.get_error(n).desc() for n in range(parser.num_errors)]
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None
