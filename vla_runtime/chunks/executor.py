"""Which chunk is followed when several have come."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks import takeover as strategies
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.motion import Motion
from vla_runtime.chunks.schedule import INTERPOLATIONS, Schedule
from vla_runtime.errors import BadInput

_WAITING = 8  # chunks whose first action lies ahead: memory is bounded
_GAPS = (1e-4, 3600.0)  # [s], between two actions: what the stamps of a wall clock tell apart, and an arm's patience


class _Waiting(NamedTuple):
    """An accepted chunk, and when it takes over, in [s]."""

    at: float
    schedule: Schedule


class ChunkExecutor:
    """Follows the chunk with the newest observation; a newer one takes over from its first due action on.

    Usually that action is already past when the chunk arrives and the takeover begins at once; otherwise the former
    chunk is followed until then, so that an early chunk opens no gap. Whatever the strategy, what is asked is
    continuous across every takeover, and so is its velocity. Outside of all chunks nothing is asked; after such a gap
    the next chunk starts anew, from where it says.

    Pure: no clock; each ``now`` is no earlier than the one before.

    max_age: the oldest observation a chunk may answer when it is offered, in [s].
    max_future: how far ahead of ``now`` an observation may be stamped, in [s]: what clocks of two machines differ by.
    takeover: the strategy, a cross-fade by default. interpolation: between two actions, "cubic" or "linear".

    Raises `BadInput` for an unknown interpolation.
    """

    def __init__(
        self,
        max_age: float = 0.5,
        max_future: float = 0.05,
        takeover: strategies.Takeover | None = None,
        interpolation: str = "cubic",
    ) -> None:
        if interpolation not in INTERPOLATIONS:
            raise BadInput(f"interpolation '{interpolation}' is unknown: choose from {', '.join(INTERPOLATIONS)}")
        self._max_age = max_age
        self._max_future = max_future
        self._takeover = strategies.takeover("blend") if takeover is None else takeover
        self._interpolation = interpolation
        self._newest_stamp: float | None = None
        self._waiting = deque[_Waiting](maxlen=_WAITING)
        self._followed: Schedule | None = None
        self._motion: Motion | None = None
        self._begins = np.inf

    @property
    def newest_stamp(self) -> float | None:
        """Observation time of the newest accepted chunk, in [s]; None before the first."""
        return self._newest_stamp

    @property
    def followed_stamp(self) -> float | None:
        """Observation time of the newest chunk the last target came from, in [s]; None before the first."""
        return None if self._followed is None else self._followed.stamp

    def offer(self, chunk: ActionChunk, now: float) -> str | None:
        """Take the chunk, or say why not. None means accepted."""
        refusal = self._refusal(chunk, now)
        if refusal is not None:
            return refusal
        self._advance(now)
        schedule = Schedule(chunk, self._interpolation)
        self._newest_stamp = schedule.stamp
        if self._motion is None:
            self._start(schedule)
            return None
        while self._waiting and self._waiting[-1].schedule.begins >= schedule.begins:
            self._waiting.pop()
        self._waiting.append(_Waiting(max(now, schedule.begins), schedule))
        self._advance(now)
        return None

    def target(self, now: float) -> NDArray[np.float64] | None:
        """What is asked at ``now`` [s], or None where nothing is. Shape (7,), [rad] and [m]."""
        self._advance(now)
        if self._motion is None or not self._begins <= now <= self._motion.ends:
            return None
        return self._motion.position(now)

    def silence(self, now: float) -> str:
        """Why there is no target at ``now`` [s], in words."""
        if self._motion is None:
            return "no chunk has come yet"
        if now < self._begins:
            return f"the first action is due in {self._begins - now:.3f} s"
        return f"the chunk ended {now - self._motion.ends:.3f} s ago"

    def _advance(self, now: float) -> None:
        """Let the waiting chunks whose time has come take over, each at its own time."""
        while self._waiting and self._waiting[0].at <= now:
            at, schedule = self._waiting.popleft()
            if self._motion is None or not self._begins <= at <= self._motion.ends:
                self._start(schedule)
            else:
                self._motion, self._followed = self._motion.then(schedule, at), schedule

    def _start(self, schedule: Schedule) -> None:
        self._motion, self._followed, self._begins = self._takeover(schedule), schedule, schedule.begins

    def _refusal(self, chunk: ActionChunk, now: float) -> str | None:
        if not np.isfinite(chunk.stamp) or not np.isfinite(chunk.positions).all():
            return "the chunk holds values that are not finite"
        if len(chunk.times) < 2:
            return "the chunk holds one action; following it through time takes at least two"
        age = now - chunk.stamp
        if not age >= -self._max_future:
            return f"the chunk is stamped {-age:.3f} s in the future, limit {self._max_future:.3f} s"
        if age > self._max_age:
            return f"the chunk is {age:.3f} s old, limit {self._max_age:.3f} s"
        if self.newest_stamp is not None and chunk.stamp <= self.newest_stamp:
            behind = self.newest_stamp - chunk.stamp
            return f"the chunk is no newer than the current one: observed {behind:.3f} s before it"
        due = chunk.stamp + chunk.times
        if due[-1] <= now:
            return f"the chunk's last action was due {now - due[-1]:.3f} s ago"
        gaps = np.diff(due)
        least, most = _GAPS
        if not (gaps.min() >= least and gaps.max() <= most):
            return (
                f"the chunk's actions are due {gaps.min():.2g} to {gaps.max():.2g} s apart; they can be followed from "
                f"{least:g} to {most:g} s apart"
            )
        return None
