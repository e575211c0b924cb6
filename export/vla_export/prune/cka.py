"""Linear centred kernel alignment (Kornblith et al., arXiv 1905.00414): how alike two layers see the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vla_runtime.errors import WorkFailed


def linear_cka(states: Sequence[Tensor]) -> Tensor:
    """Hidden states of the same tokens at n places, each (tokens, width) → their similarities (n, n), float64.

    CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) · HSIC(Y, Y)), with the biased HSIC(X, Y) = tr(H X Xᵀ H Y Yᵀ) and the
    centring matrix H = I - 1 1ᵀ / tokens: 1 for states equal up to rotation, shift and scale. Widths may differ.

    Raises WorkFailed for fewer than two tokens, and for states that are not finite or the same for every token: they
    have no similarity.
    """
    centred = []
    for place, state in enumerate(states):
        whole = state.double()
        x = whole - whole.mean(0)
        # Equal tokens do not centre to exact zeros, so "the same" has to be relative.
        if len(x) < 2 or not x.isfinite().all() or x.norm() <= 1e-9 * whole.norm():
            raise WorkFailed(f"hidden state {place}: CKA needs two or more finite tokens that differ")
        # The scale drops out; taking it out first keeps fourth powers of large activations in range.
        x = x / x.norm()
        centred.append((x @ x.T).flatten())
    grams = torch.stack(centred)
    products = grams @ grams.T
    norms = products.diagonal().sqrt()
    return products / (norms[:, None] * norms[None, :])
