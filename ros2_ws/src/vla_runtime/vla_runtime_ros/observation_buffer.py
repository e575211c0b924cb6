"""Images of all cameras and the joints of one and the same moment: one observation, or why there is none."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_runtime_ros.joint_history import JointHistory
from vla_runtime_ros.rate import Rate

ImageT = TypeVar("ImageT")

_CLOCK_SKEW = 0.05
"""How far ahead of our clock a stamp may be, in [s]: clocks of several machines never agree quite."""

_REORDER = 0.5
"""How much older than the newest a message may be and still have been overtaken on its way, in [s]; one older still
means that the clock was set back."""

_IMAGES = 16
"""Images kept of each camera, so that a fast one still has the image that was taken with a slow one's newest."""


class NotReadyError(Exception):
    """There is no observation now; the message says what is missing or too old."""


@dataclass(frozen=True)
class Snapshot(Generic[ImageT]):
    """What the robot looked like at ``stamp``.

    stamp: the moment the oldest image used was taken, in [s]. The chunk that answers is timed from it, so whatever
        the images are late by is paid for in the schedule instead of being lost.
    images: per camera, as received.
    state: the joint positions at ``stamp``, so that image and joints show the same moment. Shape (n,).
    spread: how far apart the images were taken, in [s].
    """

    stamp: float
    images: dict[str, ImageT]
    state: NDArray[np.float64]
    spread: float


@dataclass(frozen=True)
class Matching:
    """What belongs to one observation.

    timeout: the age in [s] beyond which an image or a joint state is stale.
    tolerance: how far apart the images of one observation may have been taken, in [s].
    offsets: per camera, what is added to the stamp of an image for the moment it shows on the joints' clock, in [s]:
        below 0 where the stamp is that of its arrival. A camera that is not named needs none.
    """

    timeout: float
    tolerance: float = math.inf
    offsets: Mapping[str, float] = field(default_factory=dict)


class ObservationBuffer(Generic[ImageT]):
    """Keeps the newest images of each camera and a short history of joint positions. Any thread may put or ask."""

    def __init__(self, cameras: Sequence[str], matching: Matching, history: int = 500) -> None:
        """history: how many joint states are kept."""
        self._matching = matching
        self._images: dict[str, deque[tuple[float, ImageT]]] = {name: deque(maxlen=_IMAGES) for name in cameras}
        self._joints = JointHistory(history, _REORDER)
        self._used = dict.fromkeys(cameras, -math.inf)
        self._changed = threading.Condition()
        self._rates = {name: Rate() for name in (*cameras, "joints")}
        self._spread: float | None = None

    def match(self, matching: Matching) -> None:
        """From now on match so; with other offsets than before, the images that came before are forgotten."""
        with self._changed:
            if dict(matching.offsets) != dict(self._matching.offsets):
                for camera in self._images:
                    self._forget(camera)
            self._matching = matching

    def put_image(self, camera: str, stamp: float, image: ImageT, now: float) -> None:
        """An image of ``camera`` stamped ``stamp``; one that was overtaken on its way is dropped."""
        self._rates[camera].tick(now)
        with self._changed:
            taken, kept = stamp + self._matching.offsets.get(camera, 0.0), self._images[camera]
            if kept and taken <= kept[-1][0]:
                if kept[-1][0] - taken <= _REORDER:
                    return
                self._forget(camera)
            kept.append((taken, image))
            self._changed.notify_all()

    def put_state(self, stamp: float, positions: NDArray[np.float64], now: float) -> None:
        """Joint positions measured at ``stamp``. Shape (n,)."""
        self._rates["joints"].tick(now)
        with self._changed:
            self._joints.put(stamp, positions)

    def wait_fresh(self, timeout: float) -> bool:
        """Wait up to ``timeout`` [s] until every camera has an image newer than the one used last; False where not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(kept and kept[-1][0] > self._used[name] for name, kept in self._images.items()), timeout
            )

    def check(self, now: float) -> None:
        """Raises `NotReadyError` where anything is missing or stale at ``now``."""
        with self._changed:
            for camera, kept in self._images.items():
                if not kept:
                    raise NotReadyError(f"no image of camera {camera} yet")
                self._check_age(f"the image of camera {camera}", now - kept[-1][0])
            if self._joints.newest is None:
                raise NotReadyError("no joint state yet")
            self._check_age("the joint state", now - self._joints.newest)

    def snapshot(self, now: float) -> Snapshot[ImageT]:
        """The observation to act on at ``now``, used from then on; raises `NotReadyError` like `check`.

        Of every camera the image that was taken nearest to the newest one of the camera that is farthest behind.
        """
        self.check(now)
        with self._changed:
            behind = min(kept[-1][0] for kept in self._images.values())
            images = {name: min(kept, key=lambda one: abs(one[0] - behind)) for name, kept in self._images.items()}
            taken = {camera: one[0] for camera, one in images.items()}
            first, last = min(taken, key=taken.__getitem__), max(taken, key=taken.__getitem__)
            stamp, spread = taken[first], taken[last] - taken[first]
            self._spread = spread
            if spread > self._matching.tolerance:
                raise NotReadyError(
                    f"cameras {first} and {last} are {spread:.3f} s apart, more than {self._matching.tolerance:g} s"
                )
            state, away = self._joints.at(stamp)
            if away > self._matching.timeout:
                raise NotReadyError(f"no joint state within {self._matching.timeout:g} s of the images")
            self._used = taken
            return Snapshot(stamp, {camera: image for camera, (_, image) in images.items()}, state, spread)

    def stamps(self) -> dict[str, float]:
        """When the newest image of every camera was taken, in [s]; a camera without one is missing."""
        with self._changed:
            return {camera: kept[-1][0] for camera, kept in self._images.items() if kept}

    def figures(self, now: float) -> dict[str, float]:
        """Rate in [Hz] and age in [s] of every input, and how far apart the last images compared were taken."""
        stamps = self.stamps()
        with self._changed:
            if self._joints.newest is not None:
                stamps["joints"] = self._joints.newest
            spread = {} if self._spread is None else {"camera_spread_s": self._spread}
        figures = {f"{name}_rate_hz": rate.per_second(now) for name, rate in self._rates.items()}
        return figures | {f"{name}_age_s": now - stamp for name, stamp in stamps.items()} | spread

    def _forget(self, camera: str) -> None:
        self._images[camera].clear()
        self._used[camera] = -math.inf

    def _check_age(self, what: str, age: float) -> None:
        if age > self._matching.timeout:
            raise NotReadyError(f"{what} is {age:.2f} s old, more than {self._matching.timeout:g} s")
        if age < -_CLOCK_SKEW:
            raise NotReadyError(f"{what} is stamped {-age:.2f} s in the future: synchronise the clocks")
