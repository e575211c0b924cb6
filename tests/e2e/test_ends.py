"""How an arm node ends, as a process of its own, and what the arm does then: the simulated arm outlives all of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_evaluation.stack import CONFIG, PACKAGE, ROOT
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime_ros import converters, heartbeat, qos

pytestmark = pytest.mark.e2e

START = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])
PARKED = [0.2, 0.9, -0.9, 0.1, 0.1, 0.1, 0.03]
MOTOR_POWER, EMERGENCY_STOP = 0x471, 0x150

# Starts what it is told to, says which process that is, and waits to be killed.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


class LoneArm:
    """A simulated arm in this process, an arm node in a grandchild, and whoever asks it for motion here."""

    def __init__(self, log: Path, *parameters: str) -> None:
        can = f"udp:{os.getpid()}-{random.randrange(1 << 32):08x}"
        self._bus = open_bus(can)
        self._plant = KinematicPlant(START, 3.0)
        self.arm = SimulatedPiper(self._bus, self._plant)
        self._stopping = threading.Event()
        self._log = log.open("wb")
        self._begin_simulation()
        domain = random.randrange(1, 102)
        paths = [str(ROOT), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "ROS_DOMAIN_ID": str(domain)}
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        node = [sys.executable, "-m", "vla_runtime_ros.arm_node", "--ros-args", "--params-file", str(CONFIG)]
        patient = ("feedback_timeout:=1.0", "overrun_timeout:=1.0", "max_gap:=5.0", "chunk_timeout:=3.0")
        for parameter in ("dry_run:=false", f"can:={can}", *patient, *parameters):
            node += ["-p", parameter]
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *node], env=environment, stdout=subprocess.PIPE, stderr=self._log
        )
        assert self.parent.stdout is not None
        self.pid = int(self.parent.stdout.readline())
        rclpy.init(args=[], domain_id=domain)
        self.node = rclpy.create_node("test")
        self.states: list[str] = []
        self.node.create_subscription(String, "arm_node/state", lambda m: self.states.append(m.data), qos.STATE)
        self._chunks = self.node.create_publisher(converters.JointTrajectory, "policy_node/action_chunk", qos.CHUNK)
        self._beats = self.node.create_publisher(heartbeat.DiagnosticArray, "policy_node/heartbeat", qos.HEARTBEAT)
        self.target: NDArray[np.float64] | None = None
        self.node.create_timer(0.05, self._ask)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._spinning = threading.Thread(target=self._spin)
        self._spinning.start()

    @property
    def positions(self) -> NDArray[np.float64]:
        return self._plant.positions

    def enable(self) -> None:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert self.call(ChangeState, "arm_node/change_state", request).success
        assert self.call(Trigger, "arm_node/enable", Trigger.Request()).success
        self.wait(lambda: self.states[-1:] == ["HOLDING: enabled"], "the arm to hold")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client: Any = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, name)
        future = client.call_async(request)
        self.wait(future.done, name)
        return future.result()

    def wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 60.0
        while not done():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.02)

    @property
    def ended(self) -> bool:
        """The arm node's process is no more, or only a name that nobody has asked for yet."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return status.rpartition(")")[2].split()[0] in ("Z", "X")

    def close(self) -> None:
        for process in (self.pid, self.parent.pid):
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.parent.wait()
        self._stopping.set()
        self._simulating.join()
        self._spinning.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()
        self._bus.shutdown()
        self._log.close()

    def _begin_simulation(self) -> None:
        self._simulating = threading.Thread(target=self.arm.run, args=(self._stopping,))
        self._simulating.start()

    def _spin(self) -> None:
        while not self._stopping.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _ask(self) -> None:
        now = time.time()
        self._beats.publish(heartbeat.message("test", now, "answering", {}))
        if self.target is not None:
            chunk = converters.trajectory(now, JOINT_NAMES, np.tile(self.target, (20, 1)), 10.0)
            self._chunks.publish(chunk)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., LoneArm]]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    arms: list[LoneArm] = []

    def lone(*parameters: str) -> LoneArm:
        arms.append(LoneArm(tmp_path / "arm_node.log", *parameters))
        return arms[-1]

    yield lone
    for arm in arms:
        arm.close()


def test_killed_in_full_motion_it_leaves_the_arm_at_its_last_target(start: Callable[..., LoneArm]) -> None:
    lone = start()
    lone.enable()
    lone.target = START + np.array([2.0, 0.0, 0.0, 0.5, 0.0, 0.5, 0.0])
    assert lone.call(Trigger, "arm_node/resume", Trigger.Request()).success
    lone.wait(lambda: lone.positions[0] > 0.5, "the arm to be on its way")
    os.kill(lone.pid, signal.SIGKILL)
    lone.wait(lambda: lone.ended, "the arm node to be gone")
    time.sleep(0.5)
    frames, rested = lone.arm.audit.frames.copy(), lone.positions
    time.sleep(0.5)
    np.testing.assert_array_equal(lone.positions, rested)  # it holds
    assert lone.arm.audit.frames == frames
    assert lone.arm._powered.all()
    assert 0.5 < rested[0] < 2.0  # where it was on the way, not where the way led
    np.testing.assert_allclose(rested, lone.arm._targets, atol=1e-6)
    assert lone.arm.audit.outside_limits == 0
    assert frames[EMERGENCY_STOP] == 0
    assert frames[MOTOR_POWER] == 6  # to enable each joint, and nothing since


def test_the_end_of_its_parent_parks_the_arm(start: Callable[..., LoneArm]) -> None:
    lone = start("on_exit:=park", f"park_positions:={PARKED}")
    lone.enable()
    lone.parent.kill()
    lone.wait(lambda: lone.ended, "the arm node to end")
    np.testing.assert_allclose(lone.positions, PARKED, atol=1e-4)
    lone.wait(lambda: lone.states[-1:] == ["INACTIVE: SIGTERM"], "its last word")
    assert lone.states[-4:-1] == ["PARKING: park requested", "HOLDING: parked", "HOLDING: SIGTERM"]
    assert lone.arm.audit.frames[MOTOR_POWER] == 6


def test_told_to_end_in_full_motion_it_brakes_and_holds(start: Callable[..., LoneArm]) -> None:
    lone = start()
    lone.enable()
    lone.target = START + np.array([2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert lone.call(Trigger, "arm_node/resume", Trigger.Request()).success
    lone.wait(lambda: lone.positions[0] > 0.5, "the arm to be on its way")
    os.kill(lone.pid, signal.SIGTERM)
    lone.wait(lambda: lone.ended, "the arm node to end")
    rested = lone.positions
    time.sleep(0.3)
    np.testing.assert_allclose(lone.positions, rested, atol=1e-6)
    assert rested[0] < 2.0
    assert lone.arm._powered.all()
    lone.wait(lambda: lone.states[-1:] == ["INACTIVE: SIGTERM"], "its last word")
    assert lone.states[-2] == "HOLDING: SIGTERM"
