"""Whose chunks move the arm, when more than one policy publishes them."""

from __future__ import annotations

import math


class ChunkSource:
    """Follows one publisher at a time: the first that came, until it is silent for ``timeout`` [s].

    Two policies that answer in turn would each pull the arm towards its own plan, and neither would ever see its own
    chunk executed; so the second is refused, by name, however good its chunks are.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._followed: str | None = None
        self._heard = -math.inf
        self._refused: dict[str, float] = {}

    @property
    def followed(self) -> str | None:
        """The publisher whose chunks are taken; None before the first."""
        return self._followed

    def refusal(self, publisher: str, now: float) -> str | None:
        """Why a chunk of ``publisher`` that came at ``now`` [s] is not taken; None where it is."""
        if publisher != self._followed:
            silent = now - self._heard
            if 0.0 <= silent <= self._timeout:
                self._refused[publisher] = now
                return (
                    f"a second policy publishes: {publisher} is refused while {self._followed} publishes and for "
                    f"{self._timeout:g} s after; stop one of them"
                )
            self._followed = publisher
            self._refused.pop(publisher, None)
        self._heard = now
        return None

    def rivals(self, now: float) -> tuple[str, ...]:
        """The publishers that were refused within the last timeout."""
        return tuple(name for name, at in self._refused.items() if 0.0 <= now - at <= self._timeout)
