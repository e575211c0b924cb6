"""The whole chain without ROS: the SDK's frames move the arm in the physical scene while cameras watch it."""

import threading
import time
import uuid

import numpy as np
import pytest

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.sim.cameras import Cameras
from vla_runtime.sim.scene import HOME, Scene


@pytest.fixture
def spec():
    return f"virtual:{uuid.uuid4().hex}"


def test_commands_on_the_bus_move_the_arm_before_the_cameras(spec):
    scene, stop = Scene(), threading.Event()
    cameras = Cameras(scene, 64, 64)
    before = cameras.render("side")
    with open_bus(spec) as bus:
        simulated = SimulatedPiper(bus, scene)
        thread = threading.Thread(target=simulated.run, args=(stop,))
        thread.start()
        piper = Piper(spec)
        try:
            piper.connect()
            np.testing.assert_allclose(piper.feedback().positions, HOME, atol=2e-3)
            piper.enable()
            goal = np.array([0.3, 1.4, -1.2, 0.2, 1.0, 0.3, 0.01])
            deadline = time.monotonic() + 20
            while np.max(np.abs(piper.feedback().positions - goal)) > 5e-3:
                piper.command(goal)
                cameras.render("wrist")
                time.sleep(0.01)
                assert time.monotonic() < deadline, f"stuck at {piper.feedback()}"
        finally:
            piper.close()
            stop.set()
            thread.join()
    np.testing.assert_allclose(scene.positions, goal, atol=5e-3)
    assert simulated.audit.outside_limits == 0
    assert np.mean(cameras.render("side") != before) > 0.02
