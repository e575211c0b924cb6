"""How well a rate is kept: the control loop with a PiPER on its bus, and a bare loop that only sleeps and wakes.

    python -m benchmarks.control_periods arm BUS
    python -m benchmarks.control_periods loop|bare BUS RATE SECONDS
    python -m benchmarks.control_periods load

Each is a process of its own, as `benchmarks.control` starts them. The legs print their period errors as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState
from vla_runtime_ros.control_loop import PERIOD, ControlLoop
from vla_runtime_ros.pace import Pace
from vla_runtime_ros.realtime import ask_for_fifo, ask_for_fifo_everywhere, sleep_on_time

HOME = np.array([0.1, 1.0, -1.0, 0.2, 0.3, -0.1, 0.03])
_SWING = np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.2, 0.01])
_PRIORITY = 50
_SETTLING = 0.5  # [s]


@dataclass(frozen=True)
class Leg:
    """One run of one loop.

    errors: how far each time between two wake-ups was from the period, in [s]. Shape (n,). fifo: it ran under
    SCHED_FIFO. tracking: the share of the periods in which the arm followed chunks; 1 for a bare loop.
    """

    errors: NDArray[np.float64]
    fifo: bool
    tracking: float

    def percentile(self, q: float) -> float:
        """Of the errors, in [ms]."""
        return float(np.percentile(self.errors, q)) * 1e3


def run_leg(kind: str, bus: str, rate: float, seconds: float) -> Leg:
    """Run one leg in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, kind, bus, str(rate), str(seconds)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(output)
    return Leg(np.array(found["errors"]), found["fifo"], found["tracking"])


@contextmanager
def simulated_arm() -> Iterator[str]:
    """A PiPER in a process of its own; gives the name of its bus."""
    bus = f"udp:{uuid.uuid4().hex}"
    with _process("arm", bus):
        yield bus


@contextmanager
def inference_load() -> Iterator[None]:
    """Matrices multiplied on every core, as an engine on the CPU would."""
    with _process("load"):
        yield


@contextmanager
def _process(*arguments: str) -> Iterator[None]:
    cores = str(len(os.sched_getaffinity(0)))
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), cores)
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, *arguments], env=os.environ | threads, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        yield
    finally:
        process.kill()
        process.wait()


def _arm(bus: str) -> None:
    with open_bus(bus) as opened:
        arm = SimulatedPiper(opened, KinematicPlant(HOME))
        print("begun", flush=True)
        arm.run(threading.Event())


def _load() -> None:
    matrix = np.random.default_rng(0).standard_normal((768, 768)).astype(np.float32)
    print("begun", flush=True)
    while True:
        matrix @ matrix


def _loop(bus: str, rate: float, seconds: float) -> Leg:
    """The control loop as `arm_node` runs it, following chunks that come ten times a second from another thread."""
    ask_for_fifo_everywhere(_PRIORITY - 1)
    controller = ArmController(ControlSettings(period=1 / rate), PIPER_LIMITS)
    loop = ControlLoop(Piper(bus, connect_timeout=10.0), controller, Pace(rate, sleep=sleep_on_time), time.time)
    stopping, policy_stopping = threading.Event(), threading.Event()
    granted: list[bool] = []

    def control() -> None:
        granted.append(ask_for_fifo(_PRIORITY) is None)
        loop.run(stopping)

    def policy() -> None:
        while not policy_stopping.wait(0.1):
            loop.offer(_chunk(time.time()))

    control_thread, policy_thread = threading.Thread(target=control), threading.Thread(target=policy)
    control_thread.start()
    loop.connected.result()
    policy_thread.start()
    loop.ticking.set()
    loop.ask(ArmController.request_enable).result(5.0)
    while not _is(loop, ArmState.HOLDING):
        time.sleep(0.01)
    loop.ask(ArmController.request_resume).result(5.0)
    time.sleep(_SETTLING)
    loop.spans.clear()
    followed = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.1)
        followed.append(_is(loop, ArmState.TRACKING))
    periods = loop.spans.seconds(PERIOD)
    stopping.set()
    policy_stopping.set()
    control_thread.join()
    policy_thread.join()
    return Leg(np.abs(periods - 1 / rate), granted[0], float(np.mean(followed)))


def _is(loop: ControlLoop, state: ArmState) -> bool:
    return loop.latest is not None and loop.latest.state is state


def _chunk(now: float) -> ActionChunk:
    times = np.arange(16) / 10.0
    positions = HOME + _SWING * np.sin(2 * np.pi * (now + times) / 4.0)[:, None]
    return ActionChunk(now, times, positions)


def _bare(rate: float, seconds: float) -> Leg:
    """Sleep until the next multiple of the period, over and over."""
    granted = ask_for_fifo(_PRIORITY) is None
    period, woken = 1 / rate, []
    start = time.monotonic() + _SETTLING
    for count in range(round(seconds * rate)):
        time.sleep(max(0.0, start + count * period - time.monotonic()))
        woken.append(time.monotonic())
    return Leg(np.abs(np.diff(woken) - period), granted, 1.0)


def main(arguments: list[str]) -> None:
    """One process."""
    match arguments:
        case ["arm", bus]:
            _arm(bus)
        case ["load"]:
            _load()
        case [kind, bus, rate, seconds]:
            leg = _bare(float(rate), float(seconds)) if kind == "bare" else _loop(bus, float(rate), float(seconds))
            print(json.dumps({"errors": leg.errors.tolist(), "fifo": leg.fifo, "tracking": leg.tracking}))


if __name__ == "__main__":
    main(sys.argv[1:])
