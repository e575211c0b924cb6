"""Asking the arm for motor power, and how long to wait for it."""

from __future__ import annotations

from enum import Enum

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.safety.soundness import in_words


class PowerStep(Enum):
    """ASK: ask the arm for power now. WAIT: it has not come yet. THERE: it has."""

    ASK = "ask"
    WAIT = "wait"
    THERE = "there"


class PowerRequest:
    """Brings one request for motor power to its end, and keeps the next one at a distance.

    timeout: how long the power may take to come, in [s]. interval: the least time between two requests that reach the
    arm, in [s].
    """

    def __init__(self, timeout: float, interval: float) -> None:
        self._timeout = timeout
        self._interval = interval
        self._asked = False
        self._waited = 0.0
        self._since_asked: float | None = None

    @property
    def too_soon(self) -> str | None:
        """Why no new request may be made yet; None when it may."""
        if self._since_asked is None or self._since_asked >= self._interval:
            return None
        return f"the arm was asked for power {self._since_asked:.3f} s ago, at most once in {self._interval:.3f} s"

    def begin(self) -> None:
        """A new request."""
        self._asked = False
        self._waited = 0.0

    def pass_time(self, elapsed: float) -> None:
        """``elapsed`` [s] went by, with or without a request."""
        self._waited += elapsed
        if self._since_asked is not None:
            self._since_asked += elapsed

    def advance(self, feedback: ArmFeedback | None, unsound: str | None) -> PowerStep | str:
        """What is to be done now, or why the request has failed."""
        if feedback is not None and unsound is None:
            if feedback.faults:
                return in_words(feedback.faults)
            if not self._asked:
                self._asked, self._since_asked = True, 0.0
                return PowerStep.ASK
            if feedback.enabled:
                return PowerStep.THERE
        if self._waited > self._timeout:
            return unsound or f"no motor power within {self._timeout:.3f} s"
        return PowerStep.WAIT
