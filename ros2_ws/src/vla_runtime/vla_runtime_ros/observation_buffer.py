"""The newest image of every camera and the joints as they were then: one observation, or why there is none."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from vla_runtime_ros.rate import Rate

ImageT = TypeVar("ImageT")

_CLOCK_SKEW = 0.05
"""How far ahead of our clock a stamp may be, in [s]: clocks of several machines never agree quite."""


class NotReadyError(Exception):
    """There is no observation now; the message says what is missing or too old."""


@dataclass(frozen=True)
class Snapshot(Generic[ImageT]):
    """What the robot looked like at ``stamp``.

    stamp: the capture time of the oldest image used, in [s]. The chunk that answers is timed from it, so whatever
        the images are late by is paid for in the schedule instead of being lost.
    images: per camera, as received.
    state: the joint positions measured nearest to ``stamp``, so that image and joints show the same moment. Shape (n,).
    """

    stamp: float
    images: dict[str, ImageT]
    state: NDArray[np.float64]


class ObservationBuffer(Generic[ImageT]):
    """Keeps the newest image per camera and a short history of joint positions. Any thread may put or ask.

    timeout: the age in [s] beyond which an image or a joint state is stale.
    """

    def __init__(self, cameras: Sequence[str], timeout: float, history: int = 500) -> None:
        self._timeout = timeout
        self._images: dict[str, tuple[float, ImageT] | None] = dict.fromkeys(cameras)
        self._states: deque[tuple[float, NDArray[np.float64]]] = deque(maxlen=history)
        self._used = dict.fromkeys(cameras, -math.inf)
        self._changed = threading.Condition()
        self._rates = {name: Rate() for name in (*cameras, "joints")}

    def put_image(self, camera: str, stamp: float, image: ImageT, now: float) -> None:
        """An image of ``camera`` captured at ``stamp``; one older than the kept one is dropped."""
        self._rates[camera].tick(now)
        with self._changed:
            kept = self._images[camera]
            if kept is None or stamp > kept[0]:
                self._images[camera] = (stamp, image)
                self._changed.notify_all()

    def put_state(self, stamp: float, positions: NDArray[np.float64], now: float) -> None:
        """Joint positions measured at ``stamp``. Shape (n,)."""
        self._rates["joints"].tick(now)
        with self._changed:
            self._states.append((stamp, positions))

    def wait_fresh(self, timeout: float) -> bool:
        """Wait up to ``timeout`` [s] until every camera has an image no snapshot has used yet; False where not."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(kept is not None and kept[0] > self._used[name] for name, kept in self._images.items()),
                timeout,
            )

    def check(self, now: float) -> None:
        """Raises `NotReadyError` where anything is missing or stale at ``now``."""
        with self._changed:
            for camera, kept in self._images.items():
                if kept is None:
                    raise NotReadyError(f"no image of camera {camera} yet")
                self._check_age(f"the image of camera {camera}", now - kept[0])
            if not self._states:
                raise NotReadyError("no joint state yet")
            self._check_age("the joint state", now - self._states[-1][0])

    def snapshot(self, now: float) -> Snapshot[ImageT]:
        """The observation to act on at ``now``, used from then on; raises `NotReadyError` like `check`."""
        self.check(now)
        with self._changed:
            images = {camera: kept for camera, kept in self._images.items() if kept is not None}
            stamp = min(taken for taken, _ in images.values())
            measured, state = min(self._states, key=lambda entry: abs(entry[0] - stamp))
            if abs(measured - stamp) > self._timeout:
                raise NotReadyError(f"no joint state within {self._timeout:g} s of the images")
            self._used = {camera: taken for camera, (taken, _) in images.items()}
            return Snapshot(stamp, {camera: image for camera, (_, image) in images.items()}, state)

    def _check_age(self, what: str, age: float) -> None:
        if age > self._timeout:
            raise NotReadyError(f"{what} is {age:.2f} s old, more than {self._timeout:g} s")
        if age < -_CLOCK_SKEW:
            raise NotReadyError(f"{what} is stamped {-age:.2f} s in the future: synchronise the clocks")

    def figures(self, now: float) -> dict[str, float]:
        """Rate in [Hz] and age in [s] of every input."""
        with self._changed:
            stamps = {camera: kept[0] for camera, kept in self._images.items() if kept is not None}
            if self._states:
                stamps["joints"] = self._states[-1][0]
        figures = {f"{name}_rate_hz": rate.per_second(now) for name, rate in self._rates.items()}
        return figures | {f"{name}_age_s": now - stamp for name, stamp in stamps.items()}
