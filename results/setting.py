"""The setting that the base policy fails in: the same table and tasks, the side camera an eighth of a circle on."""

from __future__ import annotations

from vla_evaluation.conditions import SUITES
from vla_runtime.sim.perturbation import Perturbation

SHIFT = 0.5  # of the side camera's arc: three cubes, gripper and arm stay in view
TASKS = ("lift", "reach")  # adapters are trained on both together

SHIFTED = Perturbation(side_camera=SHIFT)
CONDITION = next(condition for condition in SUITES["side-camera"] if condition.perturbation == SHIFTED)
