"""What a recording of the robot is to whoever calibrates on it, wherever it was recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vla_runtime.bundle.manifest import Space
from vla_runtime.policy.observation import Observation


@dataclass(frozen=True)
class PolicyInputs:
    """What the policy that is calibrated observes.

    cameras: the robot's name of each camera → its name in the data that the policy was trained on.
    """

    cameras: Mapping[str, str]
    state: Space


@dataclass(frozen=True)
class Episode:
    """Frames that belong together: whoever saw one of them knows the others.

    An episode in which the task changes appears once per task, under the same number.
    task: what the robot was asked to do, None where nobody said. frames: those recorded under that task.
    """

    number: int
    task: str | None
    frames: Sequence[int]


class Moment(NamedTuple):
    """One frame of an episode."""

    episode: int
    frame: int


class Recording(Protocol):
    """Observations on disk, of which those asked for are read.

    name: what it is, for a report. episodes: everything in it, in order.
    """

    @property
    def name(self) -> str: ...

    @property
    def episodes(self) -> Sequence[Episode]: ...

    def read(self, moments: Sequence[Moment]) -> Iterator[tuple[Moment, Observation]]:
        """The observations at ``moments``, in the order in which they are stored, one in memory at a time.

        Images are those of the policy's cameras under the robot's names; states are in SI units. Raises `BadInput`
        where one cannot be read.
        """
        ...
