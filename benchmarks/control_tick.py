"""What one control period costs: chunk executor and safety, and the frames of the command."""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.control_periods import HOME
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS

RATE = 200.0
_SWING = np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.2, 0.01])


@dataclass(frozen=True)
class TickCost:
    """Seconds of each period. Shape (n,).

    deciding: `ArmController.tick`, which is executor and safety. sending: `Piper.command`, on a bus in memory.
    """

    deciding: NDArray[np.float64]
    sending: NDArray[np.float64]

    @property
    def both(self) -> NDArray[np.float64]:
        """Together."""
        return self.deciding + self.sending


def tick_cost(ticks: int) -> TickCost:
    """Follow chunks that swing the arm, a new one every tenth of a second, for so many periods of simulated time."""
    controller = ArmController(ControlSettings(period=1 / RATE), PIPER_LIMITS)
    bus = f"virtual:{uuid.uuid4().hex}"
    driver = Piper(bus, connect_timeout=10.0)
    with open_bus(bus) as opened:
        _connect(driver, SimulatedPiper(opened, KinematicPlant(HOME)))
    now, command, enabled = 1000.0, HOME, False
    deciding, sending = [], []
    controller.request_enable(now)
    for count in range(ticks):
        now += 1 / RATE
        if count % round(RATE / 10) == 0:
            times = np.arange(16) / 10.0
            wanted = HOME + _SWING * np.sin(2 * np.pi * (now + times - 1000.0) / 4.0)[:, None]
            controller.offer(ActionChunk(now - 0.05, times, wanted), now)
            controller.request_resume(now)
        feedback = ArmFeedback(now - 0.002, command, np.zeros(7), enabled)
        began = time.perf_counter()
        tick = controller.tick(now, feedback)
        decided = time.perf_counter()
        if tick.command is not None:
            driver.command(tick.command)
            command = tick.command
        sent = time.perf_counter()
        enabled = enabled or tick.enable
        if tick.target is not None:
            deciding.append(decided - began)
            sending.append(sent - decided)
    driver.close()
    return TickCost(np.array(deciding), np.array(sending))


def _connect(driver: Piper, arm: SimulatedPiper) -> None:
    stop = threading.Event()
    answering = threading.Thread(target=arm.run, args=(stop,))
    answering.start()
    try:
        driver.connect()
    finally:
        stop.set()
        answering.join()
