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

    Raises WorkFailed as `unit_gram` does.
    """
    return similarities([unit_gram(state, f"hidden state {place}") for place, state in enumerate(states)])


def unit_gram(state: Tensor, place: str) -> Tensor:
    """A hidden state (tokens, width) → its centred Gram matrix H X Xᵀ H, of Frobenius norm 1.

    Shape (tokens, tokens), float64, whatever the width. The inner product of two of them is the CKA of their states.

    Raises WorkFailed, naming the ``place``, for fewer than two tokens, and for a state that is not finite or the same
    for every token: it has no similarity.
    """
    whole = state.double()
    x = whole - whole.mean(0)
    # Equal tokens do not centre to exact zeros, so "the same" has to be relative.
    if len(x) < 2 or not x.isfinite().all() or x.norm() <= 1e-9 * whole.norm():
        raise WorkFailed(f"{place}: CKA needs two or more finite tokens that differ")
    # The scale drops out; taking it out first keeps fourth powers of large activations in range.
    x = x / x.norm()
    gram = x @ x.T
    return gram / gram.norm()


def similarities(grams: Sequence[Tensor]) -> Tensor:
    """The CKA of every two of n `unit_gram`s, (n, n), float64."""
    found = torch.ones(len(grams), len(grams), dtype=torch.float64)
    for n, one in enumerate(grams):
        for m, other in enumerate(grams[:n]):
            found[n, m] = found[m, n] = torch.dot(one.flatten(), other.flatten())
    return found
