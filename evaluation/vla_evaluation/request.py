"""What is asked of an evaluation, checked before anything runs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vla_evaluation.conditions import SUITES, Condition, conditions
from vla_evaluation.pilot import executed_of, open_bundle
from vla_runtime.bundle.bundle import MANIFEST, sha256
from vla_runtime.errors import BadInput
from vla_runtime.sim.episode import CONTROL_PERIOD, TASKS

THROUGH = ("runtime", "ros", "can")


@dataclass(frozen=True)
class Request:
    """One evaluation.

    bundle, against: the policy, and the one it is compared with on the same seeds.
    seed: of the first episode; the others follow it one by one.
    through: what lies between the policy and the scene.
    suite: the perturbations under which every seed is run; None for none.
    swap: the instruction names another cube than the seed does.
    """

    bundle: Path
    against: Path | None
    task: str
    episodes: int
    seed: int
    through: str
    suite: str | None
    swap: bool

    @property
    def bundles(self) -> dict[str, Path]:
        """By the label they have in the results."""
        return {"bundle": self.bundle} | ({} if self.against is None else {"against": self.against})

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Under which every seed is run."""
        return conditions(self.suite)

    def identity(self) -> dict[str, Any]:
        """What makes results comparable: every argument, and the bundles by their content."""
        digests = {label: sha256(path / MANIFEST) for label, path in self.bundles.items()}
        return {
            "bundle": digests["bundle"],
            "against": digests.get("against"),
            "task": self.task,
            "episodes": self.episodes,
            "seed": self.seed,
            "through": self.through,
            "suite": self.suite,
            "swap": self.swap,
        }

    def default_directory(self) -> Path:
        """Where the results go when nobody says: the same for the same evaluation."""
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return Path("eval") / f"{self.task}-{digest[:8]}"


def check(request: Request) -> Request:
    """The request as it is; raises `BadInput` for one that cannot be carried out."""
    for what, value, known in (
        ("task", request.task, TASKS),
        ("--through", request.through, THROUGH),
        ("--suite", request.suite, (None, *SUITES)),
    ):
        if value not in known:
            raise BadInput(f"{what} {value!r} is unknown: choose {_one_of([name for name in known if name])}")
    if request.suite is not None and request.through != "runtime":
        raise BadInput(f"--suite {request.suite} perturbs the runtime alone: leave out --through {request.through}")
    if request.through == "ros" and find_spec("rclpy") is None:
        raise BadInput("--through ros needs ROS 2, and rclpy is not installed: pip install 'vla-deploy[ros]'")
    opened = {label: open_bundle(path) for label, path in request.bundles.items()}
    for path, bundle in zip(request.bundles.values(), opened.values(), strict=True):
        _check_latency(path, bundle.manifest.horizon, request.conditions)
    if request.against is not None and opened["bundle"].manifest == opened["against"].manifest:
        raise BadInput(f"--against {request.against} is the same policy as {request.bundle}: give another one")
    return request


def _check_latency(path: Path, horizon: int, planned: tuple[Condition, ...]) -> None:
    spare = (horizon - executed_of(horizon)) * CONTROL_PERIOD
    worst = max(condition.latency for condition in planned)
    if worst > spare + 1e-9:
        raise BadInput(f"{path}: its chunks cover {spare:g} s of lateness, the latency suite needs {worst:g} s")


def _one_of(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
