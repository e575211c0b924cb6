"""How many of the control periods' targets really go on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from vla_runtime.errors import BadInput

MOST = 100


class SendDensity:
    """One in ``every`` targets is due; the one the arm comes to rest at always is.

    The PiPER's controller plans from each target to the next, and targets denser than it likes make it shake. The
    targets between two that are due are left out, not averaged: each that is sent is one the safety layer has passed.
    A target that comes a second time is where the arm rests, so it is due at once unless it was sent; what is left out
    when all sending ends is less than ``every`` periods of motion.
    """

    def __init__(self, every: int) -> None:
        """Raises `BadInput` unless ``every`` is 1 to `MOST`; 1 sends them all."""
        if not 1 <= every <= MOST:
            raise BadInput(f"send_every is {every}: give 1 (every control period) to {MOST}")
        self._every = every
        self.restart()

    def restart(self) -> None:
        """The next target is due, whatever came before."""
        self._newest: tuple[float, ...] | None = None
        self._sent: tuple[float, ...] | None = None
        self._left_out = 0

    def due(self, target: Sequence[float]) -> bool:
        """Whether to send ``target``, the next of the targets, in whatever unit."""
        target = tuple(target)
        at_rest = target == self._newest and target != self._sent
        self._newest = target
        if self._sent is not None and self._left_out + 1 < self._every and not at_rest:
            self._left_out += 1
            return False
        self._sent = target
        self._left_out = 0
        return True
