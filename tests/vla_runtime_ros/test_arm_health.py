from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime_ros.arm_health import arm_health
from vla_runtime_ros.control_loop import ControlLoop
from vla_runtime_ros.diagnostics import Level
from vla_runtime_ros.dry_run import DryRunArm
from vla_runtime_ros.pace import Pace

POSTURE = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])


class Silent:
    """An arm that is heard as long as ``feedback`` is not None."""

    notes = ()

    def __init__(self) -> None:
        self.heard: ArmFeedback | None = None

    def connect(self) -> None: ...

    def feedback(self) -> ArmFeedback | None:
        return self.heard

    def close(self) -> None: ...


@pytest.fixture
def loop() -> ControlLoop:
    controller = ArmController(ControlSettings(), PIPER_LIMITS)
    return ControlLoop(DryRunArm(Silent()), controller, Pace(100.0), lambda: 100.0)


def feedback(**more: object) -> ArmFeedback:
    return ArmFeedback(99.5, POSTURE, np.zeros(7), True, **more)  # type: ignore[arg-type]


def test_until_it_controls_it_is_connected(loop: ControlLoop) -> None:
    health = arm_health(loop, feedback(firmware="S-V1.8-2"), None, 100.0, {"dry_run": "true"})
    assert (health.level, health.message) == (Level.OK, "connected, not active")
    assert health.values["feedback_age_s"] == pytest.approx(0.5)
    assert (health.values["firmware"], health.values["dry_run"]) == ("S-V1.8-2", "true")
    assert health.values["interventions/clock_jump"] == 0


def test_state_reason_and_what_led_there(loop: ControlLoop) -> None:
    loop.ticking.set()
    loop.ask(lambda controller, now: controller.request_enable(now))
    loop.period(0.0)
    health = arm_health(loop, None, "it is too old", 100.0, {})
    assert (health.level, health.message) == (Level.ERROR, "ENABLING: enable requested")  # it says nothing
    assert (health.values["feedback_age_s"], health.values["firmware"]) == ("none yet", "unknown")
    assert health.values["history/0"] == "0.000 s ago: ENABLING: enable requested"
    assert arm_health(loop, feedback(), "it is too old", 100.0, {}).level is Level.WARN
    faulty = arm_health(loop, feedback(faults=("motor 2 is hot",)), None, 100.0, {})
    assert (faulty.level, faulty.values["faults"]) == (Level.ERROR, "motor 2 is hot")
