"""Attention with grouped queries, rotary positions and additive masks.

Scores, softmax and rotations are float32 whatever the type of the linears' weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.models.linears import linear_dtype

# Finite, and within float16: an infinite mask turns into NaN where a whole row is masked.
MASKED = -6.0e4


def additive(seen: Tensor) -> Tensor:
    """Who may be seen → the additive mask that `Attention.attend` takes.

    seen: (B, S), the same for every query, or (B, T, S) or (1, T, S), bool. Returns (B, 1, 1 or T, S), float32.
    """
    rows = seen[:, None, :] if seen.ndim == 2 else seen
    return torch.where(rows, 0.0, MASKED)[:, None]


def rotation(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary position embedding (arXiv 2104.09864), halves layout.

    positions: (B, T), any integer type. Returns two tensors of shape (B, 1, T, head_dim).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.float()[:, None, :, None] * (1.0 / theta**exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``x`` (B, heads, T, head_dim) by a `rotation`; built with ``cat``, which exports without scatters."""
    cos, sin = rope
    half = x.shape[-1] // 2
    x32 = x.float()
    turned = torch.cat((-x32[..., half:], x32[..., :half]), dim=-1)
    return (x32 * cos + turned * sin).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with grouped queries; keys and values may come from elsewhere.

    Heads are rows of ``q_proj`` and columns of ``o_proj``, ``head_dim`` at a time. ``groups``: how many of them read
    each key head, in order; equal at first, and whatever is left where heads have been taken out, none included.
    ``memory_width``: what ``k_proj`` and ``v_proj`` read where that is not x but a `remember`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        bias: bool = False,
        memory_width: int | None = None,
    ) -> None:
        super().__init__()
        self.groups: tuple[int, ...] = (heads // kv_heads,) * kv_heads
        self.head_dim = head_dim
        source = width if memory_width is None else memory_width
        self.q_proj = nn.Linear(width, heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(source, kv_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(source, kv_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=bias)

    @property
    def heads(self) -> int:
        """How many query heads there are."""
        return sum(self.groups)

    @property
    def kv_heads(self) -> int:
        """How many heads keys and values have."""
        return len(self.groups)

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, width) → query (B, heads, T, head_dim), key and value (B, kv_heads, T, head_dim)."""
        return self.query(x, rope), *self.memory(x, rope)

    def query(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """x (B, T, width) → query (B, heads, T, head_dim)."""
        q = self._split(self.q_proj, x)
        return q if rope is None else rotate(q, rope)

    def memory(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """x (B, T, width) → key and value (B, kv_heads, T, head_dim)."""
        k, v = self._split(self.k_proj, x), self._split(self.v_proj, x)
        return k if rope is None else rotate(k, rope), v

    def remember(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of another attention (B, its heads, S, its head_dim) → own ones (B, kv_heads, S, head_dim).

        Theirs carry their positions already; nothing is rotated.
        """
        k, v = (memory.transpose(1, 2).flatten(2) for memory in (keys, values))
        return self._split(self.k_proj, k), self._split(self.v_proj, v)

    def reads(self) -> list[int]:
        """The key head that each query head reads."""
        return [key for key, size in enumerate(self.groups) for _ in range(size)]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, heads, T, head_dim) over k, v (B, kv_heads, S, head_dim) → (B, T, width).

        mask: additive, float32, broadcastable to (B, 1, T, S), or None where everything may be seen.
        """
        b, _, t, d = q.shape
        if len(set(self.groups)) > 1:
            reads = torch.tensor(self.reads(), device=k.device)
            k, v = k.index_select(1, reads), v.index_select(1, reads)
        kv_heads, s = k.shape[1:3]
        size = self.heads // kv_heads
        # One matrix product per key head serves its whole group of query heads, without repeating keys.
        q = (q * d**-0.5).reshape(b, kv_heads, size * t, d)
        scores = (q @ k.transpose(2, 3)).float()
        if mask is not None:
            scores = (scores.view(b, kv_heads, size, t, s) + mask[:, :, None]).view(b, kv_heads, -1, s)
        weights = scores.softmax(-1).to(v.dtype)
        out = (weights @ v).view(b, self.heads, t, d).transpose(1, 2).reshape(b, t, self.heads * d)
        return self.o_proj(out)

    def _split(self, linear: nn.Module, x: Tensor) -> Tensor:
        """A linear's output for x (B, T, any) by heads: (B, heads, T, head_dim)."""
        b, t, _ = x.shape
        return linear(x.to(linear_dtype(linear))).view(b, t, -1, self.head_dim).transpose(1, 2)


class Memory(Attention):
    """What others read of an attention, its keys and values; there is nobody to ask and nothing to answer."""

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.groups, self.head_dim = (0,) * attention.kv_heads, attention.head_dim
        self.k_proj, self.v_proj = attention.k_proj, attention.v_proj
