"""Who answers observations with chunks during an episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Manifest, Space
from vla_runtime.engines.choice import onnxruntime_precision
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput
from vla_runtime.policy.joint_space import joint_names
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.profiling.latency import latency

CAMERAS = ("side", "wrist")
RATE = 10.0  # [Hz], of the actions in every episode


class Pilot(Protocol):
    """Answers observations with chunks of absolute targets at 10 Hz, in one episode after the other."""

    @property
    def executed(self) -> int:
        """How many actions of a chunk are executed before the next observation."""
        ...

    @property
    def horizon(self) -> int:
        """How many actions a chunk has."""
        ...

    def begin(self, instruction: str, seed: int) -> None:
        """Start an episode; what is random in it follows from ``seed``."""
        ...

    def chunk(self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Targets for the next steps, six joints in [rad] and the gripper in [m]. Shape (horizon, 7)."""
        ...

    @property
    def latency(self) -> float | None:
        """Median time of a chunk since the episode began, in [ms]; None before the first."""
        ...


class BundlePilot:
    """A bundle on one thread of ONNX Runtime, in fp32 where it has that: half of every chunk is executed.

    Noise follows the seed of the episode.
    size: height and width of the pictures the episode shall render, in [px].
    """

    def __init__(self, bundle: Bundle) -> None:
        """Raises `BadInput` for a bundle that is not for this arm and these cameras."""
        check_fit(bundle)
        manifest = bundle.manifest
        self._policy = Policy(bundle, OnnxRuntimeEngine(bundle, onnxruntime_precision(bundle), threads=1))
        self._noise_shape = (1, manifest.horizon, manifest.action.padded_to)
        self._noise = np.random.default_rng(0)
        self.size = picture_size(manifest)

    @property
    def horizon(self) -> int:
        return self._noise_shape[1]

    @property
    def executed(self) -> int:
        return executed_of(self.horizon)

    def begin(self, instruction: str, seed: int) -> None:
        self._policy.set_task(instruction)
        self._policy.spans.clear()
        self._noise = np.random.default_rng(seed)

    def chunk(self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float64]) -> NDArray[np.float64]:
        noise = self._noise.standard_normal(self._noise_shape, dtype=np.float32)
        return self._policy.infer(Observation(images, state), noise)

    @property
    def latency(self) -> float | None:
        seconds = self._policy.spans.seconds("total")
        return latency(seconds).p50 * 1e3 if len(seconds) else None


def executed_of(horizon: int) -> int:
    """How many of a chunk's actions are executed: half of them, so that the other half covers whatever comes late."""
    return max(1, horizon // 2)


def picture_size(manifest: Manifest) -> int:
    """Height and width of the pictures to render for a policy, in [px]."""
    camera = manifest.cameras[0]
    return max(camera.height, camera.width)


def open_bundle(path: Path) -> Bundle:
    """A bundle that can be evaluated; raises `BadInput` for any other."""
    bundle = Bundle.open(path)
    check_fit(bundle)
    return bundle


def check_fit(bundle: Bundle) -> None:
    """Raises `BadInput` for a bundle of other cameras, joints or rate than the simulated arm's."""
    manifest = bundle.manifest
    cameras = tuple(camera.name for camera in manifest.cameras)
    if sorted(cameras) != sorted(CAMERAS):
        raise BadInput(
            f"{bundle.root}: the policy sees {', '.join(cameras)}; the simulated scene has {', '.join(CAMERAS)}: "
            "evaluate a policy that was trained on them"
        )
    for what, space in (("state", manifest.state), ("action", manifest.action)):
        _check_space(bundle, what, space)
    if manifest.rate != RATE:
        raise BadInput(
            f"{bundle.root}: the policy's actions come at {manifest.rate:g} Hz; the tasks are run at {RATE:g} Hz"
        )
    if manifest.horizon < 2:
        raise BadInput(f"{bundle.root}: a chunk of one action cannot be executed by halves: give horizon 2 or more")


def _check_space(bundle: Bundle, what: str, space: Space) -> None:
    try:
        found = joint_names(what, space)
    except BadInput as error:
        raise BadInput(f"{bundle.root}: {error}") from error
    if found != list(JOINT_NAMES):
        raise BadInput(
            f"{bundle.root}: the policy's {what} is {', '.join(found)}; this arm's is {', '.join(JOINT_NAMES)}"
        )
