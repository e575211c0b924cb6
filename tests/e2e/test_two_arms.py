"""Two arms on one machine and in one DDS domain, each in its namespace: what one is asked, the other does not do."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tests.toy_bundle import write_toy_bundle
from vla_evaluation.stack import Stack, Values

pytestmark = pytest.mark.e2e

RAMP = 0.3  # [rad] over a chunk


def test_each_arm_does_what_it_is_asked_and_nothing_else(tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "bundle", ramp=RAMP)
    domain = random.randrange(1, 102)
    parameters: dict[str, Values] = {
        "sim_node": {"image_height": 32, "image_width": 32, "camera_rate": 5.0},
        # A busy machine is not what this is about.
        "arm_node": {
            "diagnostics_rate": 5.0,
            "chunk_timeout": 3.0,
            "feedback_timeout": 1.0,
            "overrun_timeout": 1.0,
            "max_gap": 5.0,
            "watchdogs": '["policy=10.0"]',
        },
        "policy_node": {"engine": "onnxruntime", "chunk_rate": 2.0, "observation_timeout": 3.0},
    }

    def stack(name: str) -> Stack:
        return Stack(bundle, tmp_path / name, parameters=parameters, namespace=f"/{name}", domain=domain)

    with stack("left") as left, stack("right") as right:
        for one in (left, right):
            one.enable()
        at_rest = right.recording.measured[-1][1]
        left.send_task("reach the red cube")
        left.ask("resume")
        left.wait(lambda: left.recording.state.startswith("TRACKING"), 30.0, "the left arm to follow its policy")
        began = left.recording.measured[-1][1]
        left.wait(lambda: left.recording.measured[-1][1][0] - began[0] > RAMP / 2, 30.0, "the left arm to move")
        assert right.recording.state == "HOLDING: enabled"
        assert right.recording.chunks == []
        np.testing.assert_allclose(right.recording.measured[-1][1], at_rest, atol=0.01)
        commands = [command for _, command in right.recording.commands]
        np.testing.assert_array_equal(np.ptp(commands, axis=0), np.zeros(7))
        left.ask("hold")
        right.ask("resume")
        right.send_task("reach the red cube")
        right.wait(lambda: right.recording.state.startswith("TRACKING"), 30.0, "the right arm to follow its policy")
        assert left.recording.state == "HOLDING: hold requested"
