"""Faults that only exist between real processes: one that stands still, one that is killed, one too many.

What everything else leads to is in `tests/faults`, in simulated time.
"""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest
import rclpy
from trajectory_msgs.msg import JointTrajectory

from tests.toy_bundle import write_toy_bundle
from vla_evaluation.stack import Stack
from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime_ros import converters, qos

pytestmark = pytest.mark.e2e

INTRUDERS_JOINT1 = 1.5  # [rad], where the intruder wants it
INTRUSIONS = 20
PATIENCE = 20.0  # [s]
WATCHED = 1.0  # [s], after the arm node is dead


@dataclass
class Story:
    """What happened, chapter by chapter: the states the arm went through, as published.

    refused_from: whom the arm node named as refused. joint1: commanded while the intruder published, in [rad].
    before_death, after_death: the identifier of each command frame that came before and after the arm node was dead.
    outside: frames beyond the firmware's limits, as the simulated arm counted them.
    """

    intruder: list[str] = field(default_factory=list)
    still_policy: list[str] = field(default_factory=list)
    still_arm: list[str] = field(default_factory=list)
    refused_from: str = ""
    joint1: list[float] = field(default_factory=list)
    before_death: list[int] = field(default_factory=list)
    after_death: list[int] = field(default_factory=list)
    outside: str = ""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("faults")
    candump, domain = directory / "frames.log", random.randrange(1, 102)
    parameters = {
        "sim_node": {"record": str(candump), "image_height": 32, "image_width": 32, "diagnostics_rate": 5.0},
        "arm_node": {
            "chunk_timeout": 1.2,
            "feedback_timeout": 0.5,
            "overrun_timeout": 0.4,
            "watchdogs": '["policy=1.0"]',
            "diagnostics_rate": 5.0,
        },
        "policy_node": {"engine": "onnxruntime", "chunk_rate": 5.0},
    }
    bundle = write_toy_bundle(directory / "bundle", ramp=0.02)
    told = Story()
    with Stack(bundle, directory / "logs", parameters=parameters, domain=domain) as stack:
        states = stack.recording.states

        def tracking() -> bool:
            return stack.recording.state.startswith("TRACKING")

        def steady() -> None:
            fresh = len(stack.recording.chunks) + 5
            stack.wait(
                lambda: tracking() and len(stack.recording.chunks) >= fresh, PATIENCE, "the arm to follow chunks"
            )

        def since(mark: int) -> list[str]:
            return [state for _, state in states[mark:]]

        stack.enable()
        stack.ask("resume")
        stack.send_task("reach the red cube")
        steady()

        mark, commands = len(states), len(stack.recording.commands)
        _intrude(domain)
        told.refused_from = stack.recording.diagnoses["arm_node"].values["chunks_refused_from"]
        told.intruder = since(mark)
        told.joint1 = [float(command[0]) for _, command in stack.recording.commands[commands:]]

        mark = len(states)
        with _standing_still("policy_node"):
            stack.wait(lambda: not tracking(), PATIENCE, "the arm to hold without a policy")
        steady()
        told.still_policy = since(mark)

        mark = len(states)
        with _standing_still("sim_node"):
            stack.wait(lambda: not tracking(), PATIENCE, "the arm to hold without feedback")
        time.sleep(1.0)
        told.still_arm = since(mark)
        stack.ask("resume")
        steady()

        told.outside = stack.recording.diagnoses["sim_node"].values["frames_outside_limits"]
        stack.kill("arm_node")
        dead = time.time()
        time.sleep(WATCHED)
    for stamp, identifier in _frames(candump):
        (told.before_death if stamp <= dead else told.after_death).append(identifier)
    return told


def _intrude(domain: int) -> None:
    """Another node publishes chunks of its own."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=domain)
    node = rclpy.create_node("intruder", context=context)
    try:
        publisher = node.create_publisher(JointTrajectory, "/policy_node/action_chunk", qos.CHUNK)
        deadline = time.monotonic() + PATIENCE
        while publisher.get_subscription_count() == 0:
            assert time.monotonic() < deadline, "nobody listens to the intruder"
            time.sleep(0.05)
        wanted = np.tile([INTRUDERS_JOINT1, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03], (16, 1))
        for _ in range(INTRUSIONS):
            publisher.publish(converters.trajectory(time.time(), JOINT_NAMES, wanted, 10.0))
            time.sleep(0.1)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def _standing_still(name: str) -> Iterator[None]:
    """A node that gets no processor meanwhile."""
    module = f"vla_runtime_ros.{name}"
    (node,) = (child for child in psutil.Process().children() if module in child.cmdline())
    node.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.send_signal(signal.SIGCONT)


def _frames(candump: Path) -> list[tuple[float, int]]:
    """When each command frame came, in [s], and its identifier."""
    found = re.findall(r"^\((\S+)\) \S+ ([0-9A-F]{3})#", candump.read_text(), re.MULTILINE)
    return [(float(stamp), int(identifier, 16)) for stamp, identifier in found]


def test_a_second_policy_is_refused_and_the_first_is_followed_on(story: Story) -> None:
    assert story.refused_from != ""
    assert [state for state in story.intruder if not state.startswith("TRACKING")] == []
    assert len(story.joint1) > INTRUSIONS
    assert max(story.joint1) < INTRUDERS_JOINT1 / 2


def test_a_policy_that_stands_still_holds_the_arm_until_it_goes_on(story: Story) -> None:
    assert re.match(
        r"HOLDING: (policy is 1\.\d+ s old, limit 1\.000 s|newest chunk is 1\.\d+ s old)", story.still_policy[0]
    )
    assert story.still_policy[-1] == "TRACKING: following chunks"


def test_an_arm_that_falls_silent_holds_until_the_user_resumes(story: Story) -> None:
    assert re.match(r"HOLDING: arm feedback is 0\.\d+ s old, limit 0\.500 s", story.still_arm[0])
    assert [state for state in story.still_arm if state.startswith("TRACKING")] == []


def test_an_arm_node_killed_in_motion_leaves_the_arm_alone(story: Story) -> None:
    assert len(story.before_death) > 1000
    assert story.after_death == []
    assert frames.EMERGENCY_STOP not in story.before_death
    assert story.before_death.count(frames.MOTOR_POWER) == 6
    assert story.outside == "0"
