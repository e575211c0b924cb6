"""The fused operator computes what it replaces, and replaces attention that hides nothing and nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from vla_export.graph.fused_attention import fuse_attention
from vla_export.graph.onnx_cleaning import clean
from vla_export.models.attention import Attention, additive

SHAPE = (2, 7, 12)  # batch, tokens, width


class Attending(nn.Module):
    def __init__(self, kv_heads: int, masked: bool) -> None:
        super().__init__()
        self.attention, self.masked = Attention(12, 4, kv_heads, 5, bias=True), masked

    def forward(self, x: Tensor) -> Tensor:
        mask = additive(torch.arange(SHAPE[1])[None] < 5) if self.masked else None
        return self.attention.attend(*self.attention.project(x, None), mask)


def exported(module: nn.Module) -> ir.Model:
    torch.manual_seed(0)
    program = torch.onnx.export(
        module.eval(), (torch.randn(SHAPE),), dynamo=True, opset_version=18, optimize=False, verbose=False
    )
    clean(program.model)
    return program.model


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def fused(model: ir.Model) -> list[str | None]:
    return [node.name for node in model.graph if node.op_type == "MultiHeadAttention"]


def test_the_fused_operator_computes_the_same():
    model = exported(Attending(kv_heads=4, masked=False))
    x = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    before = run(model, x)
    fuse_attention(model)
    assert fused(model) == ["attention/MultiHeadAttention"]
    assert not [node for node in model.graph if node.op_type == "Softmax"]
    np.testing.assert_allclose(run(model, x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kv_heads", "masked"), [(2, False), (4, True)])
def test_shared_keys_and_masks_stay_as_they_are(kv_heads, masked):
    model = exported(Attending(kv_heads, masked))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    fuse_attention(model)
    assert fused(model) == []
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
