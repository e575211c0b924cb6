"""What can be wrong with a simulated PiPER and its bus, switched on and off while it runs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vla_runtime.arms import piper_frames as frames

if TYPE_CHECKING:
    import can

_FEEDBACK = (
    frames.ARM_STATUS,
    *frames.END_POSE,
    *frames.JOINTS,
    frames.GRIPPER,
    *frames.MOTOR_FAST,
    *frames.MOTOR_SLOW,
)
_BUS_OFF = 0x40  # linux/can/error.h, CAN_ERR_BUSOFF


@dataclass
class SimulatedFaults:
    """The faults of one `SimulatedPiper`; fresh, it has none. Any thread may switch them.

    silent: the arm says nothing, and still obeys: its wire to us is cut.
    deaf: the arm hears nothing, and still speaks: our wire to it is cut.
    frozen: every frame of feedback repeats what it first said since then, whatever the arm does.
    delay: how much later than it should each frame leaves, in [s].
    motor_bits: what the six motors report besides their power, as in `piper_faults`.
    condition: what the controller reports in place of its own condition, as in `piper_faults`; None for its own.
    firmware: the text it gives in place of its identity, of any length; None for its own, empty for no answer.
    unpowered: bit i: motor i + 1 (bit 6: the gripper) loses its power and takes none.
    """

    silent: bool = False
    deaf: bool = False
    frozen: bool = False
    delay: float = 0.0
    motor_bits: list[int] = field(default_factory=lambda: [0] * 6)
    condition: int | None = None
    firmware: str | None = None
    unpowered: int = 0
    _frozen_frames: dict[int, bytes] = field(default_factory=dict, init=False, repr=False)
    _waiting: deque[tuple[float, int, bytes]] = field(default_factory=deque, init=False, repr=False)

    def outgoing(self, now: float, identifier: int, data: bytes) -> None:
        """The arm wants to send a frame at ``now`` [s]; `due` says what of it reaches the bus, and when."""
        if self.frozen:
            data = self._frozen_frames.setdefault(identifier, data) if identifier in _FEEDBACK else data
        else:
            self._frozen_frames.clear()
        if not self.silent:
            self._waiting.append((now + self.delay, identifier, data))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """The frames that leave by ``now`` [s], in their order."""
        leaving = []
        while self._waiting and self._waiting[0][0] <= now:
            _, identifier, data = self._waiting.popleft()
            leaving.append((identifier, data))
        return leaving


def report_bus_off(bus: can.BusABC) -> None:
    """Everyone else on ``bus`` hears from its adapter what it says when it has gone bus-off.

    The silence that follows is `SimulatedFaults.silent` and `SimulatedFaults.deaf`.
    """
    import can

    bus.send(can.Message(arbitration_id=_BUS_OFF, is_error_frame=True, is_extended_id=False, data=bytes(8)))


def send_garbage(bus: can.BusABC, count: int, seed: int) -> None:
    """Send ``count`` frames that no PiPER sends: of unknown identifiers, of wrong lengths, remote and extended ones.

    None is a well-formed frame of feedback with a false content; of such a frame no receiver can know.
    """
    import can

    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.randrange(4)
        identifier = rng.choice(_FEEDBACK) if kind else rng.randrange(0x600, 0x7FF)
        length = rng.randrange(8) if kind == 1 else 8
        remote, extended = kind == 2, kind == 3
        bus.send(
            can.Message(
                arbitration_id=identifier,
                data=None if remote else rng.randbytes(length),
                dlc=length,
                is_remote_frame=remote,
                is_extended_id=extended,
            )
        )


def refuse_sends(bus: can.BusABC) -> Callable[[], None]:
    """Every send on ``bus`` fails, as where the queue is full because nothing leaves it; the returned call mends it."""
    import can

    def refuse(message: can.Message, timeout: float | None = None) -> None:
        raise can.CanOperationError("no buffer space available")

    vars(bus)["send"] = refuse
    return lambda: vars(bus).pop("send", None)
