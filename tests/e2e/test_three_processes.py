"""The three real processes over DDS and CAN frames: the arm moves as the chunk said, and stops when nobody thinks.

The policy answers only every two seconds here, so that each chunk is followed for long: an arm that stood still, or
went anywhere else, would be far from the schedule.
"""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.toy_bundle import write_toy_bundle
from vla_evaluation.recording import Recording
from vla_evaluation.stack import Stack
from vla_runtime.chunks.chunk import ActionChunk

pytestmark = pytest.mark.e2e

CHUNK_TIMEOUT = 1.2  # [s]; a chunk lasts 1.5 s
RAMP = 0.15  # [rad] over a chunk; three of them leave the gripper above the table
CONTROL_PERIOD = 0.01  # [s]
SETTLING = 0.3  # [s], from the first command of a chunk until the arm has caught up with it
TRACKING_TOLERANCE = 0.03  # [rad], a fifth of what a chunk asks
BRAKING = 0.3  # [s], from the hold until the arm rests
CHUNKS = 3
HELD = 20  # commands between enabling and the first request for motion

# What the PiPER may be told, written down a second time on purpose: [rad], [m], [rad/s], [m/s].
LOWER = np.array([-2.6179, 0.0, -2.967, -1.745, -1.22, -1.745, 0.0])
UPPER = np.array([2.6179, 3.14, 0.0, 1.745, 1.22, 1.745, 0.07])
VELOCITY = np.array([1.0] * 6 + [0.1])
STEP = np.array([np.radians(0.001)] * 6 + [1e-6])


@dataclass(frozen=True)
class Run:
    """One whole run: what was said and measured, and every frame that reached the simulated arm.

    asked: when the user first asked for motion, in [s].
    """

    recording: Recording
    asked: float
    last_chunk: ActionChunk
    candump: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("e2e")
    bundle = write_toy_bundle(directory / "bundle", ramp=RAMP)
    candump = directory / "frames.log"
    parameters = {
        "sim_node": {"record": str(candump), "image_height": 64, "image_width": 64},
        "arm_node": {
            "chunk_timeout": CHUNK_TIMEOUT,
            "watchdogs": '["policy=5.0"]',  # its chunks shall be missed first
            "diagnostics_rate": 5.0,
            "feedback_timeout": 0.5,
        },
        "policy_node": {"chunk_rate": 0.5, "engine": "onnxruntime"},
    }
    with Stack(bundle, directory / "logs", parameters=parameters) as stack:
        recording = stack.recording
        stack.enable()
        stack.wait(lambda: len(recording.commands) > HELD, 20.0, "the arm to be held for a while")
        asked = time.time()
        stack.ask("resume")
        stack.send_task("reach the red cube")
        stack.wait(lambda: len(recording.chunks) == CHUNKS, 20.0, f"{CHUNKS} chunks")
        stack.kill("policy_node")
        last_chunk = recording.chunks[-1][1]
        stack.wait(
            lambda: len(after(recording.commands, last_chunk.stamp + CHUNK_TIMEOUT + BRAKING)) > 50,
            20.0,
            "commands after the hold",
        )
    return Run(recording, asked, last_chunk, candump)


def after(samples: list[tuple[float, NDArray[np.float64]]], moment: float) -> list[NDArray[np.float64]]:
    return [values for stamp, values in list(samples) if stamp > moment]


def test_the_arm_moved_as_the_chunks_said(run: Run) -> None:
    compared = 0
    followed = run.recording.chunks[:-1]
    for arrival, chunk in followed:
        ends = chunk.stamp + min(CHUNK_TIMEOUT, float(chunk.times[-1]))
        for stamp, measured in run.recording.measured:
            if not arrival + SETTLING < stamp < ends:
                continue
            scheduled = [np.interp(stamp - chunk.stamp, chunk.times, chunk.positions[:, j]) for j in range(6)]
            expected = np.clip(scheduled, LOWER[:6], UPPER[:6])
            np.testing.assert_allclose(measured[:6], expected, atol=TRACKING_TOLERANCE, err_msg=f"at {stamp}")
            compared += 1
    assert compared > 50 * len(followed)
    moved = run.recording.measured[-1][1] - run.recording.measured[0][1]
    assert moved[0] > (CHUNKS - 1) * RAMP / 2


def test_killing_the_policy_makes_the_arm_hold_within_its_timeout_and_say_why(run: Run) -> None:
    held = after(run.recording.commands, run.last_chunk.stamp + CHUNK_TIMEOUT + BRAKING)
    moving = after(run.recording.commands, run.last_chunk.stamp + CHUNK_TIMEOUT / 2)[: -len(held)]
    assert np.ptp(moving, axis=0)[0] > 0.03, "the arm was moving until then"
    np.testing.assert_array_equal(np.ptp(held, axis=0), np.zeros(7))
    held_because, *ended = [state for _, state in run.recording.states][-3:]
    assert re.match(r"HOLDING: newest chunk is 1\.2\d+ s old, limit 1\.200 s", held_because)
    assert ended == ["HOLDING: SIGTERM", "INACTIVE: SIGTERM"]


def test_the_arm_was_only_moved_on_the_users_word(run: Run) -> None:
    held = [command for sent, command in run.recording.commands if sent < run.asked]
    assert len(held) > HELD
    np.testing.assert_array_equal(np.ptp(held, axis=0), np.zeros(7))


def test_no_frame_outside_the_limits_reached_the_arm(run: Run) -> None:
    targets = decode(run.candump)
    assert min(len(values) for values in targets.values()) > 300
    for joint, values in targets.items():
        assert min(values) >= LOWER[joint] - STEP[joint] / 2
        assert max(values) <= UPPER[joint] + STEP[joint] / 2
        # A period that came late may use twice its share, never more; frames are counted, not their times of arrival.
        reach = 2 * VELOCITY[joint] * CONTROL_PERIOD + 2 * STEP[joint]
        assert max(abs(later - earlier) for earlier, later in pairwise(values)) <= reach
    assert run.recording.diagnoses["sim_node"].values["frames_outside_limits"] == "0"


def decode(candump: Path) -> dict[int, list[float]]:
    """Every target of every coordinate in the order it arrived, from the log of frames alone: joints 0–5, gripper 6."""
    targets: dict[int, list[float]] = {coordinate: [] for coordinate in range(7)}
    for line in candump.read_text().splitlines():
        match = re.match(r"\(\d+\.\d+\) \S+ ([0-9A-F]{3})#([0-9A-F]*)", line)
        assert match, line
        identifier, data = int(match[1], 16), bytes.fromhex(match[2])
        if 0x155 <= identifier <= 0x157:
            first = 2 * (identifier - 0x155)
            for offset, steps in enumerate(struct.unpack(">ii", data)):
                targets[first + offset].append(steps * STEP[first + offset])
        elif identifier == 0x159:
            (steps,) = struct.unpack(">i", data[:4])
            targets[6].append(steps * STEP[6])
    return targets
