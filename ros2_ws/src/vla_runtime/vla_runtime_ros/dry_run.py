"""An arm that only listens: nothing that could move or power it is ever sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import ArmFeedback


class Listener(Protocol):
    """The part of an `Arm` that sends nothing which moves or powers it."""

    @property
    def notes(self) -> tuple[str, ...]: ...

    def connect(self) -> None: ...

    def feedback(self) -> ArmFeedback | None: ...

    def close(self) -> None: ...


class DryRunArm:
    """An `Arm` that imagines what it is told to do, beside a real one that it can only listen to.

    Its feedback has the age and the faults of the real arm's. Power comes when it is asked for, and from then on the
    imagined arm, which starts at the real posture, is exactly where it was last commanded.
    """

    def __init__(self, real: Listener) -> None:
        self._real = real
        self._imagined: NDArray[np.float64] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The real arm's."""
        return self._real.notes

    def connect(self) -> None:
        """Connect the real arm; raises `WorkFailed` as it does."""
        self._real.connect()

    def feedback(self) -> ArmFeedback | None:
        """The real feedback, with the imagined posture and power."""
        measured = self._real.feedback()
        if measured is None:
            return None
        imagined = self._imagined
        if imagined is None:
            return replace(measured, enabled=False)
        return replace(measured, positions=imagined.copy(), velocities=np.zeros(7), enabled=True)

    def enable(self) -> None:
        """Imagine power, at the real posture."""
        measured = self._real.feedback()
        self._imagined = None if measured is None else measured.positions.copy()

    def command(self, positions: NDArray[np.float64]) -> None:
        """Imagine the arm there. Six joints in [rad], gripper in [m]. Shape (7,)."""
        if self._imagined is not None:
            self._imagined = positions.copy()

    def disable(self) -> None:
        """Imagine no power."""
        self._imagined = None

    def close(self) -> None:
        """Leave the real arm alone."""
        self._imagined = None
        self._real.close()
