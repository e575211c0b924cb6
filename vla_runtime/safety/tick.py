"""What one control period comes to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.states import ArmState


@dataclass(frozen=True, eq=False)
class Tick:
    """What one control period comes to.

    state, reason: what the arm is doing, and why.
    command: what to send, joints in [rad], gripper in [m]. Shape (7,). None: send nothing.
    enable, disable: ask the arm for, or cut, motor power, once, before the command is sent.
    interventions: what the safety layer did since the tick before, by `vla_runtime.safety.interventions`.
    target: what the followed chunk asked before any limit. Shape (7,). None when no chunk is followed.
    observed: when what that chunk answers was observed, in [s]; None when no chunk is followed.
    needs_resume: no chunk moves the arm before `ArmController.request_resume`.
    """

    state: ArmState
    reason: str
    command: NDArray[np.float64] | None = None
    enable: bool = False
    disable: bool = False
    interventions: tuple[str, ...] = ()
    target: NDArray[np.float64] | None = None
    observed: float | None = None
    needs_resume: bool = True
