"""One process's means to run cases: engines opened once, one episode that becomes each case's own."""

from __future__ import annotations

from pathlib import Path

from vla_evaluation.can_rollout import roll_out_over_can
from vla_evaluation.case import Case
from vla_evaluation.film_strip import write_film_strip
from vla_evaluation.outcome import Outcome, Rollout
from vla_evaluation.pilot import BundlePilot, open_bundle, picture_size
from vla_evaluation.request import Request
from vla_evaluation.runtime_rollout import roll_out
from vla_evaluation.staging import stage
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.sim.episode import Episode


def strip_path(directory: Path, key: str) -> Path:
    """Where the film strip of an episode goes."""
    return directory / "strips" / f"{key}.png"


class Laboratory:
    """Runs cases of one request, one after the other; failures leave a film strip in ``directory``."""

    def __init__(self, request: Request, directory: Path) -> None:
        self._request, self._directory = request, directory
        self._bundles: dict[str, Bundle] = {}
        self._pilots: dict[str, BundlePilot] = {}
        self._episodes: dict[int, Episode] = {}

    def run(self, case: Case) -> Outcome:
        """The outcome of ``case``.

        Raises `BadInput` for a bundle that does not fit, `WorkFailed` where nothing can render or the arm is not to be
        brought to move.
        """
        bundle = self._bundle(case.bundle)
        episode = self._episode(picture_size(bundle.manifest))
        stage(episode, case)
        rollout = self._through(case, episode, bundle)
        if not rollout.outcome.success and rollout.frames:
            write_film_strip(rollout.frames, strip_path(self._directory, case.key))
        return rollout.outcome

    def _through(self, case: Case, episode: Episode, bundle: Bundle) -> Rollout:
        if self._request.through == "ros":
            from vla_evaluation.ros_rollout import roll_out_over_ros  # rclpy, which the others do without

            return roll_out_over_ros(case, episode, bundle, self._directory / "logs" / case.key)
        run = roll_out_over_can if self._request.through == "can" else roll_out
        return run(case, episode, self._pilot(case.bundle))

    def _bundle(self, label: str) -> Bundle:
        if label not in self._bundles:
            self._bundles[label] = open_bundle(self._request.bundles[label])
        return self._bundles[label]

    def _pilot(self, label: str) -> BundlePilot:
        if label not in self._pilots:
            self._pilots[label] = BundlePilot(self._bundle(label))
        return self._pilots[label]

    def _episode(self, size: int) -> Episode:
        if size not in self._episodes:
            rendered = self._request.through != "ros"
            self._episodes[size] = Episode(self._request.task, 0, image_size=size, render=rendered)
        return self._episodes[size]
