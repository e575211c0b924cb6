"""Something that must keep coming, and how long it may stay away."""

from __future__ import annotations

from collections.abc import Mapping
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


class Watchdogs:
    """Several things that must all keep coming, by name.

    timeouts: the oldest each may be, in [s]. max_future: how far ahead of the clock a stamp may lie, in [s].
    """

    def __init__(self, timeouts: Mapping[str, float], max_future: float) -> None:
        self._dogs = {name: Watchdog(name, timeout, max_future) for name, timeout in timeouts.items()}
        self._stamps: dict[str, float] = {}

    def heard(self, name: str, stamp: float) -> str | None:
        """The thing came, stamped ``stamp`` [s]. Says why that is not taken; None when it is."""
        if name not in self._dogs:
            return f"nothing called {name!r} is watched: {', '.join(self._dogs) or 'no watchdogs are set'}"
        self._stamps[name] = stamp
        return None

    def forget(self) -> None:
        """What was heard belongs to a time that is no more."""
        self._stamps.clear()

    def complaint(self, now: float) -> str | None:
        """Why one of them cannot be relied on at ``now`` [s]; None when all can."""
        complaints = (dog.complaint(self._stamps.get(name), now) for name, dog in self._dogs.items())
        return next((complaint for complaint in complaints if complaint is not None), None)
