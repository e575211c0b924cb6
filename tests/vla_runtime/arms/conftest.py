"""A simulated arm that lives in a thread, and the patience to wait for it."""

import threading
import time
import uuid
from contextlib import contextmanager

import pytest

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper

HOME = (0.1, 0.5, -0.7, 0.2, 0.3, -0.4, 0.02)


def eventually(condition, patience=10.0):
    """Wait until ``condition()`` holds; fails after ``patience`` seconds, which only a broken arm uses up."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


@contextmanager
def living(spec, plant=None, **options):
    """A `SimulatedPiper` stepping in a thread; ``.die()`` stops it as a cut cable would."""
    with open_bus(spec) as bus:
        arm = SimulatedPiper(bus, plant or KinematicPlant(HOME), **options)
        stop = threading.Event()
        thread = threading.Thread(target=arm.run, args=(stop,))
        thread.start()

        def die():
            stop.set()
            thread.join()

        arm.die = die
        try:
            yield arm
        finally:
            die()
            arm.close()


@pytest.fixture
def arm():
    spec = f"virtual:{uuid.uuid4().hex}"
    with living(spec) as simulated:
        simulated.spec = spec
        yield simulated
