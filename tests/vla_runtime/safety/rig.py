"""A controller with an arm that does what it is sent."""

from __future__ import annotations

import numpy as np

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState
from vla_runtime.safety.workspace import PIPER_WORKSPACE

PERIOD = 0.01
START = np.array([0.1, 1.0, -1.0, 0.2, 0.3, -0.1, 0.02])


class Rig:
    """A controller and an arm that follows its commands within one period; time runs tick by tick."""

    def __init__(self, start=START, now=1000.0, workspace=PIPER_WORKSPACE, **settings):
        self.controller = ArmController(ControlSettings(**settings), PIPER_LIMITS, workspace)
        self.now = now
        self.positions = np.array(start, dtype=float)
        self.enabled = False
        self.faults = ()
        self.stuck = False
        self.feedback_age = 0.0
        self.firmware = None
        self.ticks = []

    def feedback(self):
        stamp = self.now - self.feedback_age
        return ArmFeedback(stamp, self.positions.copy(), np.zeros(7), self.enabled, self.faults, self.firmware)

    def tick(self, feedback="own", dt=PERIOD):
        self.now += dt
        tick = self.controller.tick(self.now, self.feedback() if feedback == "own" else feedback)
        if tick.enable:
            self.enabled = True
        if tick.disable:
            self.enabled = False
        if tick.command is not None and self.enabled and not self.stuck:
            self.positions = tick.command.copy()
        self.ticks.append(tick)
        return tick

    def rest(self):
        """Ticks until the command no longer moves."""
        while True:
            before = self.ticks[-1].command
            tick = self.tick()
            if tick.command is None or np.array_equal(tick.command, before):
                return tick

    def run(self, seconds, chunk=None):
        for _ in range(round(seconds / PERIOD)):
            if chunk is not None:
                self.offer(chunk)
            tick = self.tick()
        return tick

    def offer(self, positions, age=0.0, horizon=1.0):
        """A chunk that asks for one position throughout."""
        chunk = ActionChunk(self.now - age, np.array([0.0, horizon]), np.array([positions, positions], dtype=float))
        return self.controller.offer(chunk, self.now)

    def enable(self):
        assert self.controller.request_enable(self.now) is None
        return self.run(2 * PERIOD)

    def track(self, positions):
        self.enable()
        assert self.controller.request_resume(self.now) is None
        assert self.offer(positions) is None
        tick = self.tick()
        assert tick.state is ArmState.TRACKING
        return tick


def sent(rig):
    """Times and commands of the ticks that sent something, in one unbroken sequence. Shapes (n,), (n, 7)."""
    commands = [tick.command for tick in rig.ticks if tick.command is not None]
    return PERIOD * np.arange(len(commands)), np.array(commands)


def moved(joint, to, start=START):
    return np.where(np.arange(7) == joint, to, start)
