"""From an observation to the bus, through the real nodes: cameras, policy node and arm node over DDS, CAN frames.

The policy is a toy of two linear graphs; what its engine takes is measured, and given beside the rest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.control_cameras import TOPICS
from tests.toy_bundle import write_toy_bundle
from vla_evaluation.stack import Stack, Values

RATE = 200.0  # [Hz], of the control loop
CAMERA_RATE = 30.0  # [Hz]
_WARMING = 2.0  # [s]
_STAGES = ("decode", "images", "encode", "denoise", "total")


@dataclass(frozen=True)
class Latency:
    """From the stamp of the older image to the first command in answer on the bus, in [ms].

    image: height and width in [px]. chunk_rate: chunks per second. stages: median of each stage in the policy node, in
    [ms], of which encode and ten flow steps are the engine's.
    """

    image: tuple[int, int]
    p50: float
    p99: float
    chunk_rate: float
    flow_steps: int
    stages: dict[str, float]

    @property
    def engine(self) -> float:
        """What the engine takes of it, in [ms], at the median."""
        return self.stages["encode"] + self.flow_steps * self.stages["denoise"]


def observation_to_bus(height: int, width: int, seconds: float) -> Latency:
    """Run the nodes, with cameras of this size, for so long."""
    flow_steps = 5
    with tempfile.TemporaryDirectory() as place:
        bundle = write_toy_bundle(Path(place) / "bundle", size=224, flow_steps=flow_steps)
        domain = 50 + os.getpid() % 50
        topics = "[" + ", ".join(f'"{name}={topic}"' for name, topic in TOPICS.items()) + "]"
        parameters: dict[str, Values] = {
            "sim_node": {"image_height": 16, "image_width": 16, "camera_rate": 1.0},
            "arm_node": {"control_rate": RATE, "diagnostics_rate": 2.0},
            "policy_node": {"engine": "onnxruntime", "camera_topics": topics, "diagnostics_rate": 2.0},
        }
        with (
            _cameras(height, width, domain),
            Stack(bundle, Path(place) / "logs", parameters=parameters, domain=domain) as stack,
        ):
            stack.enable()
            stack.ask("resume")
            stack.send_task("reach the red cube")
            stack.wait(lambda: stack.recording.state.startswith("TRACKING"), 20.0, "the arm to follow chunks")
            before = len(stack.recording.chunks)
            time.sleep(_WARMING + seconds)
            figure = stack.recording.figure
            return Latency(
                (height, width),
                figure("arm_node", "observation_to_command_p50_ms"),
                figure("arm_node", "observation_to_command_p99_ms"),
                (len(stack.recording.chunks) - before) / (_WARMING + seconds),
                flow_steps,
                {stage: figure("policy_node", f"{stage}_p50_ms") for stage in _STAGES},
            )


@contextmanager
def _cameras(height: int, width: int, domain: int) -> Iterator[None]:
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    command = [sys.executable, "-m", "benchmarks.control_cameras", str(height), str(width), str(CAMERA_RATE)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()
