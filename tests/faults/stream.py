"""What carries messages from one node to another, and everything it can do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Message = TypeVar("Message")


class Stream(Generic[Message]):
    """Hands every message to ``deliver``, ``delay`` [s] after it was sent.

    lost: nothing arrives any more. frozen: instead of each message the last one before comes again. swapped: of every
    two messages the second comes first. altered: what becomes of every message.
    """

    def __init__(self, deliver: Callable[[Message], None], delay: float = 0.0) -> None:
        self._deliver = deliver
        self.delay = delay
        self.lost = self.frozen = self.swapped = False
        self.altered: Callable[[Message], Message] | None = None
        self._last: Message | None = None
        self._kept_back: Message | None = None
        self._on_its_way: list[tuple[float, Message]] = []

    def send(self, message: Message, now: float) -> None:
        """A message leaves at ``now`` [s]."""
        if self.frozen and self._last is not None:
            message = self._last
        self._last = message
        if self.lost:
            return
        if self.altered is not None:
            message = self.altered(message)
        if not self.swapped:
            leaving = [message]
        elif self._kept_back is None:
            self._kept_back, leaving = message, []
        else:
            leaving, self._kept_back = [message, self._kept_back], None
        self._on_its_way += [(now + self.delay, one) for one in leaving]

    def step(self, now: float) -> None:
        """Deliver what has arrived by ``now`` [s]."""
        arrived = [message for due, message in self._on_its_way if due <= now]
        self._on_its_way = [(due, message) for due, message in self._on_its_way if due > now]
        for message in arrived:
            self._deliver(message)
