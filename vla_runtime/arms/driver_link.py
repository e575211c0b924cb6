"""What an arm needs of a ROS driver, in plain data: no ROS type comes past here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class JointMessage(NamedTuple):
    """A sensor_msgs/JointState: one value per name, or none at all; ``stamp`` in [s] since the epoch."""

    stamp: float
    names: tuple[str, ...]
    positions: tuple[float, ...]
    velocities: tuple[float, ...] = ()
    efforts: tuple[float, ...] = ()


@dataclass(frozen=True)
class DriverTopics:
    """The names a driver goes by, relative to its namespace.

    feedback: JointState the driver publishes.
    command: JointState the driver obeys.
    power: where motor power is asked for: a topic of type Bool, or a service of type SetBool where ``power_answers``.
    other_commands: further topics the driver obeys, which nobody may use meanwhile.
    """

    feedback: str
    command: str
    power: str
    power_answers: bool
    other_commands: tuple[str, ...]


class DriverLink(Protocol):
    """The way to a driver and back. `open` and `close` in one thread; the others from any."""

    def open(self, heard: Callable[[JointMessage], None]) -> None:
        """Listen from now on: ``heard`` is called with every feedback message, in a thread of the link's own."""
        ...

    def parameters(self, names: Sequence[str], timeout: float) -> Mapping[str, object]:
        """The driver's own parameters, without those it does not have.

        Raises `WorkFailed` where it does not answer within ``timeout`` [s].
        """
        ...

    def command(self, message: JointMessage) -> None:
        """Send a target to the driver."""
        ...

    def power(self, on: bool, answered: Callable[[bool, str], None]) -> None:
        """Ask for motor power, or to cut it. ``answered`` comes later with (granted, message), if ever."""
        ...

    def complaints(self) -> tuple[str, ...]:
        """What is wrong with the connections, in words: nobody listens, or somebody else commands the arm too."""
        ...

    def close(self) -> None:
        """Hear and say nothing more."""
        ...
