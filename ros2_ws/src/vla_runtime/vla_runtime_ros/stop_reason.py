"""Why something stopped: whoever says it first is believed."""

from __future__ import annotations

import threading


class StopReason:
    """The first reason given since the last ``clear``. Any thread may give one."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._lock = threading.Lock()

    def give(self, reason: str) -> bool:
        """Record ``reason`` unless one is there already; True where it was the first."""
        with self._lock:
            if self._reason is not None:
                return False
            self._reason = reason
            return True

    def clear(self) -> None:
        """A new start: nothing has stopped yet."""
        with self._lock:
            self._reason = None

    @property
    def text(self) -> str | None:
        """The reason, or None while nothing stopped."""
        with self._lock:
            return self._reason
