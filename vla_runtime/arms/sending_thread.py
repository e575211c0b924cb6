"""One arm, one sender: a second thread that sends is a defect, and is told so at once."""

from __future__ import annotations

import threading


class SendingThread:
    """The first thread that claims it keeps it until `release`."""

    def __init__(self) -> None:
        self._owner: int | None = None

    def claim(self) -> None:
        """Raises ``RuntimeError`` in any thread but the owner."""
        thread = threading.get_ident()
        if self._owner is None:
            self._owner = thread
        if thread != self._owner:
            raise RuntimeError(f"thread '{threading.current_thread().name}' sends to an arm that another thread drives")

    def release(self) -> None:
        """Whoever claims it next owns it."""
        self._owner = None
