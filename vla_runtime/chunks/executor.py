"""Which chunk is followed when several have come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.schedule import Schedule


class ChunkExecutor:
    """Follows the chunk with the newest observation; a newer one replaces it from its first due action on.

    Usually that action is already past when the chunk arrives and the replacement is immediate; otherwise the former
    chunk is followed until then, so that an early chunk opens no gap. Nothing is blended: the step between two chunks
    is left to the velocity limit.

    max_age: the oldest observation a chunk may answer when it is offered, in [s].
    max_future: how far ahead of ``now`` an observation may be stamped, in [s]: what clocks of two machines differ by.
    """

    def __init__(self, max_age: float = 0.5, max_future: float = 0.05) -> None:
        self._max_age = max_age
        self._max_future = max_future
        self._current: Schedule | None = None
        self._next: Schedule | None = None

    @property
    def newest_stamp(self) -> float | None:
        """Observation time of the newest accepted chunk, in [s]; None before the first."""
        newest = self._next or self._current
        return None if newest is None else newest.chunk.stamp

    @property
    def followed_stamp(self) -> float | None:
        """Observation time of the chunk the last target came from, in [s]; None before the first."""
        return None if self._current is None else self._current.chunk.stamp

    def offer(self, chunk: ActionChunk, now: float) -> str | None:
        """Take the chunk, or say why not. None means accepted."""
        refusal = self._refusal(chunk, now)
        if refusal is None:
            schedule = Schedule(chunk)
            if self._current is None or schedule.begins <= now:
                self._current, self._next = schedule, None
            else:
                self._next = schedule
        return refusal

    def target(self, now: float) -> NDArray[np.float64] | None:
        """What the followed chunk asks at ``now`` [s], or None where it asks nothing. Shape (7,), [rad] and [m]."""
        if self._next is not None and self._next.begins <= now:
            self._current, self._next = self._next, None
        return None if self._current is None else self._current.target(now)

    def silence(self, now: float) -> str:
        """Why there is no target at ``now`` [s], in words."""
        if self._current is None:
            return "no chunk has come yet"
        if now < self._current.begins:
            return f"the first action is due in {self._current.begins - now:.3f} s"
        return f"the chunk ended {now - self._current.ends:.3f} s ago"

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
        ends = Schedule(chunk).ends
        if ends <= now:
            return f"the chunk's last action was due {now - ends:.3f} s ago"
        return None
