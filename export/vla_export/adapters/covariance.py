"""What a linear's tokens leave behind as they stream past, from which its affine merge is fitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vla_export.adapters.least_squares import Affine, Moments, fit_moments, fit_tokens

# Wider than this, a linear's covariance alone is more than 512 MiB of float64.
WIDEST = 8192
# Tokens kept of a wider one: 256 MiB of float32 where it is 16,384 wide.
SAMPLE = 4096


class _Sums:
    """Sums over tokens, in float64 and about a point near their mean, which takes nothing from small variances."""

    def __init__(self, about_x: Tensor, about_g: Tensor) -> None:
        self.about_x, self.about_g = about_x, about_g
        self.count = 0
        self.x, self.g = torch.zeros_like(about_x), torch.zeros_like(about_g)
        self.xx = about_x.new_zeros(len(about_x), len(about_x))
        self.gx = about_x.new_zeros(len(about_g), len(about_x))

    def add(self, x: Tensor, g: Tensor) -> None:
        x, g = x.double() - self.about_x, g.double() - self.about_g
        self.count += len(x)
        self.x += x.sum(0)
        self.g += g.sum(0)
        self.xx.addmm_(x.T, x)
        self.gx.addmm_(g.T, x)

    def moments(self) -> Moments:
        """Leaves the sums unfit for more tokens: two covariances of a wide linear do not have to fit into memory."""
        mean_x, mean_g = self.x / self.count, self.g / self.count
        xx = self.xx.div_(self.count).addr_(mean_x, mean_x, alpha=-1)
        gx = self.gx.div_(self.count).addr_(mean_g, mean_x, alpha=-1)
        return Moments(self.about_x + mean_x, self.about_g + mean_g, xx, gx)


class TokenStatistics:
    """Inputs x and gated directions g of one linear's tokens, in no more memory than a fit of them needs.

    Tokens are kept, float32, while they are no more than the linear is wide: then the dual form solves the smaller
    system. Beyond that their sums are kept. Of a linear wider than ``widest``, whose covariance is too large, a uniform
    random ``sample`` of its tokens is kept (Vitter's algorithm R, seeded): the fit is then that sample's, with the
    prior wherever the sample has nothing to say, and only tokens it has not seen can show what that costs.
    """

    def __init__(self, width: int, directions: int, *, widest: int = WIDEST, sample: int = SAMPLE) -> None:
        self.tokens = 0
        self._kept_x, self._kept_g = torch.empty(0, width), torch.empty(0, directions)
        self._new: list[tuple[Tensor, Tensor]] = []
        self._sums: _Sums | None = None
        self._room = width if width <= widest else sample
        self._sampled = width > widest
        self._random = np.random.default_rng(0)

    @property
    def fitted(self) -> int:
        """How many of the tokens a fit is made from."""
        return min(self.tokens, self._room) if self._sampled else self.tokens

    def add(self, x: Tensor, g: Tensor) -> None:
        """x: (n, width). g: (n, directions). Any number at a time; the order matters only to which are sampled."""
        if self._sampled:
            self._sample(x, g)
        elif self._sums is not None:
            self._sums.add(x, g)
        else:
            self._new.append((x.float().clone(), g.float().clone()))
            if self.tokens + len(x) > self._room:
                self._sum_up()
        self.tokens += len(x)

    def fit(self, prior: Tensor, ridges: Sequence[float]) -> tuple[Affine, ...]:
        """The fit with each ridge, as `fit_moments` has it; nothing can be added afterwards. At least one token."""
        if self._sums is not None:
            return fit_moments(self._sums.moments(), prior, ridges)
        return fit_tokens(*self._kept(), prior, ridges)

    def _kept(self) -> tuple[Tensor, Tensor]:
        """The tokens kept so far, in one piece."""
        if self._new:
            self._kept_x = torch.cat((self._kept_x, *(x for x, _ in self._new)))
            self._kept_g = torch.cat((self._kept_g, *(g for _, g in self._new)))
            self._new.clear()
        return self._kept_x, self._kept_g

    def _sum_up(self) -> None:
        x, g = self._kept()
        self._sums = _Sums(x.double().mean(0), g.double().mean(0))
        self._sums.add(x, g)
        self._kept_x, self._kept_g = x[:0].clone(), g[:0].clone()

    def _sample(self, x: Tensor, g: Tensor) -> None:
        room = max(0, self._room - self.tokens)
        if room:
            self._new.append((x[:room].float().clone(), g[:room].float().clone()))
        numbers = np.arange(self.tokens + min(room, len(x)), self.tokens + len(x))
        places = np.floor(self._random.random(len(numbers)) * (numbers + 1)).astype(np.int64)
        later = {
            int(place): int(n) - self.tokens for n, place in zip(numbers, places, strict=True) if place < self._room
        }
        if later:
            kept_x, kept_g = self._kept()
            kept_x[list(later)] = x[list(later.values())].float()
            kept_g[list(later)] = g[list(later.values())].float()
