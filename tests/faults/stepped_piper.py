"""The real driver of the PiPER, listening when it is told to instead of in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.piper import Piper


class SteppedPiper(Piper):
    """Every frame it hears was sent at this moment of simulated time.

    sent: (true time in [s], what was sent (7,)) of every command the bus took, whatever the clock says.
    """

    def __init__(self, spec: str, clock: Callable[[], float], true_time: Callable[[], float]) -> None:
        super().__init__(spec, clock=clock, connect_timeout=2.0)
        self._true_time = true_time
        self.sent: list[tuple[float, NDArray[np.float64]]] = []

    @property
    def listening(self) -> bool:
        """Its thread hears what is said."""
        return self._reader is not None

    def connect(self) -> None:
        """As the driver does, its thread at work meanwhile."""
        super().connect()
        assert self._reader is not None
        self._stopping.set()
        self._reader.join()

    def listen(self) -> None:
        """Hear all that has arrived."""
        bus = self._sdk.GetCanBus().recv_bus
        while (message := bus.recv(0)) is not None:
            message.timestamp = time.time()  # it did not wait: no simulated time has passed
            self._hear(message)

    def command(self, positions: NDArray[np.float64]) -> None:
        super().command(positions)
        self.sent.append((self._true_time(), positions.copy()))
