"""The affine map of a linear's input that is nearest to what the linear's branch does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Columns turned to float64 at a time: 4,096 tokens of a 16,384-wide linear would otherwise be half a gigabyte more.
_PIECE = 2048
# Equal tokens do not centre to exact zeros: less variance than this, for what the mean squares to, is rounding alone.
_VARIANCE = 1e-20


@dataclass(frozen=True)
class Affine:
    """x → matrix x + offset. matrix: (directions, in). offset: (directions,)."""

    matrix: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Moments:
    """Means and covariances of tokens' inputs x (in,) and gated directions g (directions,), float64.

    mean_x (in,), mean_g (directions,), xx: Cov(x, x) (in, in), gx: Cov(g, x) (directions, in), over n, not n - 1.
    """

    mean_x: Tensor
    mean_g: Tensor
    xx: Tensor
    gx: Tensor


def fit_moments(moments: Moments, prior: Tensor, ridges: Sequence[float]) -> tuple[Affine, ...]:
    """For each ridge, the K and k that minimise E‖g − K x − k‖² + λ ‖K − P‖², with λ = ridge · trace Cov(x, x) / in:

        K = P + Cov(g − P x, x) (Cov(x, x) + λ I)⁻¹        k = E g − K E x

    A branch is f(x) = B g(x), linear in g, so B K x + B k is also the affine map nearest to f: only directions · in
    numbers are unknown. P is the ``prior``, (directions, in). Whatever the ridge, K is no worse than P on the tokens it
    is fitted to, and equal to it along directions of x that these tokens never take. Ridges are more than 0.
    """
    prior, trace = prior.double(), float(moments.xx.trace())
    varies = trace > _VARIANCE * float(moments.mean_x.square().sum())
    rest = (moments.gx - prior @ moments.xx).T
    fits = []
    for ridge in ridges:
        matrix = prior
        if varies:
            penalised = moments.xx.clone()
            penalised.diagonal().add_(ridge * trace / len(penalised))
            matrix = prior + torch.cholesky_solve(rest, torch.linalg.cholesky(penalised)).T
        fits.append(Affine(matrix, moments.mean_g - matrix @ moments.mean_x))
    return tuple(fits)


def fit_tokens(x: Tensor, g: Tensor, prior: Tensor, ridges: Sequence[float]) -> tuple[Affine, ...]:
    """`fit_moments` of the tokens x (n, in) and g (n, directions) in its dual form, a system of size n in place of in:

        K = P + (G − X Pᵀ)ᵀ (X Xᵀ + n λ I)⁻¹ X             X, G: the tokens less their means

    The two are equal (Saunders, Gammerman and Vovk, "Ridge regression learning algorithm in dual variables", 1998).
    """
    prior, count = prior.double(), len(x)
    mean_x, mean_g = x.double().mean(0), g.double().mean(0)
    rest = g.double() - mean_g
    gram = torch.zeros(count, count, dtype=torch.float64)
    pieces = list(zip(x.split(_PIECE, 1), mean_x.split(_PIECE), prior.split(_PIECE, 1), strict=True))
    for columns, mean, part in pieces:
        centred = columns.double() - mean
        gram.addmm_(centred, centred.T)
        rest -= centred @ part.T
    trace = float(gram.trace())
    varies = trace > _VARIANCE * count * float(mean_x.square().sum())
    fits = []
    for ridge in ridges:
        matrix = prior
        if varies:
            penalised = gram.clone()
            penalised.diagonal().add_(ridge * trace / x.shape[1])
            weights = torch.cholesky_solve(rest, torch.linalg.cholesky(penalised)).T
            matrix = torch.cat([part + weights @ (columns.double() - mean) for columns, mean, part in pieces], dim=1)
        fits.append(Affine(matrix, mean_g - matrix @ mean_x))
    return tuple(fits)
