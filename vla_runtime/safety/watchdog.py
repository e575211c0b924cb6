"""Something that must keep coming, and how long it may stay away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Watchdog:
    """Judges the age of one named thing.

    name: what is watched, as a reason names it.
    timeout: the oldest it may be, in [s].
    max_future: how far ahead of the clock its stamp may lie, in [s].
    """

    name: str
    timeout: float
    max_future: float

    def complaint(self, stamp: float | None, now: float) -> str | None:
        """Why the thing stamped ``stamp`` [s] cannot be relied on at ``now`` [s]; None when it can."""
        if stamp is None:
            return f"no {self.name} yet"
        age = now - stamp
        if age < -self.max_future:
            return f"{self.name} is stamped {-age:.3f} s in the future, limit {self.max_future:.3f} s"
        if not age <= self.timeout:  # written so that an age of NaN complains
            return f"{self.name} is {age:.3f} s old, limit {self.timeout:.3f} s"
        return None
