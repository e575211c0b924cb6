"""The arm as MuJoCo has it: the oracle for where its links are."""

from __future__ import annotations

import mujoco
import numpy as np

from vla_runtime.safety.arm_geometry import PIPER_MJCF, piper_geometry

GEOMETRY = piper_geometry()
FAR = 3.0  # [m]
BLOCK = -1.5  # [m]


class MujocoArm:
    def __init__(self):
        spec = mujoco.MjSpec.from_file(str(PIPER_MJCF.with_name("scene.xml")))
        spec.worldbody.add_geom(name="block", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0, 0, BLOCK - 0.5], size=[3, 3, 0.5])
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.bodies = [self.model.body(name).id for name in GEOMETRY.names]
        self.geoms = [g for body in self.bodies for g in np.flatnonzero(self.model.geom_bodyid == body)]

    def pose(self, posture):
        for joint in range(6):
            self.data.qpos[self.model.joint(f"joint{joint + 1}").qposadr[0]] = posture[joint]
        for finger in ("finger_left", "finger_right"):
            self.data.qpos[self.model.joint(finger).qposadr[0]] = posture[6] / 2
        mujoco.mj_kinematics(self.model, self.data)

    def distance(self, first, second):
        """Between two of the arm's shapes, by their index in the geometry, in [m]."""
        return mujoco.mj_geomDistance(self.model, self.data, self.geoms[first], self.geoms[second], FAR, np.zeros(6))

    def height(self, shape):
        """Of the lowest point of a shape, in [m]: its distance from a great block below."""
        block = self.model.geom("block").id
        return BLOCK + mujoco.mj_geomDistance(self.model, self.data, self.geoms[shape], block, FAR, np.zeros(6))
