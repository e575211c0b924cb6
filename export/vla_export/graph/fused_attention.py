"""Attention as the one operator that ONNX Runtime computes in tiles, for graphs that nothing else will run."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern

_DOMAIN = "com.microsoft"
_OPERATOR = "MultiHeadAttention"


def fuse_attention(model: ir.Model) -> None:
    """Replace each attention without a mask whose keys have as many heads as its queries, in place.

    That is the attention of the image towers, where half of encode's time without matrix products is spent on scores
    that the operator never writes to memory. It is ONNX Runtime's own, no part of the ONNX standard.
    """
    if not pattern.RewriteRule(_attention, _fused).apply_to_model(model):
        return
    model.opset_imports[_DOMAIN] = 1
    for node in model.graph:
        if node.domain == _DOMAIN:
            query = node.inputs[0]
            assert query is not None
            projection = query.producer()
            assert projection is not None
            node.name = f"{str(projection.name).rpartition('.')[0]}/{_OPERATOR}"


def _attention(op: Any, q: Any, k: Any, v: Any, scale: Any, heads: Any, k_heads: Any, v_heads: Any, joined: Any) -> Any:
    """What `vla_export.models.attention.Attention.attend` becomes; q, k and v are (batch, tokens, heads * head_dim)."""
    by_head = op.Transpose(op.Reshape(q, heads), perm=[0, 2, 1, 3])
    k_by_head = op.Transpose(op.Reshape(k, k_heads), perm=[0, 2, 1, 3])
    v_by_head = op.Transpose(op.Reshape(v, v_heads), perm=[0, 2, 1, 3])
    scores = op.MatMul(op.Mul(by_head, scale), op.Transpose(k_by_head, perm=[0, 1, 3, 2]))
    read = op.MatMul(op.Softmax(scores, axis=-1), v_by_head)
    return op.Reshape(op.Transpose(read, perm=[0, 2, 1, 3]), joined)


def _fused(op: Any, q: ir.Value, k: ir.Value, v: ir.Value, scale: ir.Value, heads: ir.Value, **_: ir.Value) -> Any:
    assert q.shape is not None
    assert scale.const_value is not None
    assert heads.const_value is not None
    head_dim = int(heads.const_value.numpy()[-1])
    return op.MultiHeadAttention(
        q,
        k,
        v,
        num_heads=int(q.shape.numpy()[-1]) // head_dim,
        scale=float(scale.const_value.numpy()),
        _domain=_DOMAIN,
    )
