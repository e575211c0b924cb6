"""Real-time chunking (arXiv 2506.07339): a new action chunk goes on where the former one will be by then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput

RtcForm = Literal["hard", "identity", "guided"]
Schedule = Literal["linear", "exponential"]

# Stamps differ from whole periods by the resolution of their clock: that is no action more or less.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Rtc:
    """How a chunk is made to continue the former one.

    form: ``hard`` overwrites the frozen actions in every flow step. ``identity`` pulls towards the former chunk,
    taking the denoiser's Jacobian for the identity. ``guided`` pulls along that Jacobian, as the paper does.
    schedule: how the pull fades after the frozen actions; ``hard`` has none. beta: the most that the pull counts.

    Raises `BadInput` for a form or schedule there is not, and for a beta that is not positive and finite.
    """

    form: RtcForm
    schedule: Schedule = "exponential"
    beta: float = 5.0

    def __post_init__(self) -> None:
        for what, word, known in (("form", self.form, RtcForm), ("schedule", self.schedule, Schedule)):
            if word not in get_args(known):
                raise BadInput(f"real-time chunking: the {what} {word!r} is none of {', '.join(get_args(known))}")
        if not 0 < self.beta < math.inf:
            raise BadInput(f"real-time chunking: beta is {self.beta:g}, expected a positive number such as 5")


@dataclass(frozen=True, eq=False)
class PreviousChunk:
    """What the arm is following while the next chunk is inferred.

    actions: absolute, in SI units, one per period; the first is due at the stamp of the new chunk's observation. What
    the former chunk promised from there on; it ends where that ends. Shape (n, n_action).
    frozen: how many of them will have been executed before the new chunk can take over.

    Raises `BadInput` for actions that are no such table, are not finite, and for a negative ``frozen``.
    """

    actions: NDArray[np.float64]
    frozen: int

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) == 0:
            raise BadInput(f"the former chunk must have the shape (n, n_action), got {self.actions.shape}")
        if not np.isfinite(self.actions).all():
            raise BadInput("the former chunk is not finite: infer a new one without it")
        if self.frozen < 0:
            raise BadInput(f"{self.frozen} actions cannot be frozen: count those executed during one inference")


def still_to_come(actions: NDArray[np.float64], period: float, elapsed: float) -> NDArray[np.float64]:
    """The former chunk on the grid of the new one: what is due ``elapsed`` after its first action, and from there on.

    actions: due every ``period`` [s], the first at 0. Shape (H, n_action). elapsed: in [s]; between two actions, what
    lies between them linearly. Returns the shape (n, n_action), n being 0 once the last action is over.
    Raises `BadInput` for a former chunk that begins after the new one.
    """
    last = len(actions) - 1
    begin = elapsed / period
    if abs(begin - round(begin)) < _ROUNDING:
        begin = float(round(begin))
    if begin < 0:
        raise BadInput(f"the former chunk begins {-elapsed:.3f} s after the new observation: they are in wrong order")
    places = np.arange(begin, last + 1e-9)
    columns = [np.interp(places, np.arange(last + 1), column) for column in actions.T]
    return np.stack(columns, axis=1)


def prefix_weights(horizon: int, frozen: int, known: int, schedule: Schedule) -> NDArray[np.float32]:
    """How much each action of a new chunk shall be that of the former one. Shape (H,), from 1 down to 0.

    known: how many actions of the former chunk are still to come, H − s in the paper. 1 for the ``frozen`` first (d);
    for d <= i < H − s, with c = (H − s − i) / (H − s − d + 1), it is c (linear) or c (e^c − 1) / (e − 1) (exponential,
    eq. 5); 0 afterwards.
    """
    end = min(known, horizon)
    start = min(frozen, end)
    falling = (end - np.arange(horizon)) / (end - start + 1)
    weights = np.clip(falling, 0.0, 1.0)
    if schedule == "exponential":
        weights = weights * np.expm1(weights) / math.expm1(1.0)
    weights[:start] = 1.0
    return weights.astype(np.float32)


def strength(time: float, beta: float) -> float:
    """How much the pull counts at a flow time t, from 1 (noise) to 0: min(beta, (t² + (1 − t)²) / (t (1 − t))).

    In the paper's τ = 1 − t it is min(β, (1 − τ) / (τ r²)) with r² = (1 − τ)² / ((1 − τ)² + τ²). It grows beyond all
    bounds towards both ends of the flow, and is beta there.
    """
    both = time * (1 - time)
    return beta if both <= 0 else min(beta, (time**2 + (1 - time) ** 2) / both)


@dataclass(frozen=True, eq=False)
class Target:
    """A former chunk as the flow sees it.

    chunk: normalised and padded, zeros where it has ended. Shape (1, H, A). weights: of `prefix_weights`. Shape
    (1, H, 1). frozen: how many of its first actions must stay; never more than it has.
    """

    chunk: NDArray[np.float32]
    weights: NDArray[np.float32]
    frozen: int


def target(actions: NDArray[np.float32], frozen: int, horizon: int, schedule: Schedule) -> Target:
    """What a new chunk of ``horizon`` actions is to continue. actions: normalised and padded, shape (n, A)."""
    known = min(len(actions), horizon)
    chunk = np.zeros((1, horizon, actions.shape[1]), np.float32)
    chunk[0, :known] = actions[:known]
    weights = prefix_weights(horizon, frozen, known, schedule)
    return Target(chunk, weights[None, :, None], min(frozen, known))
