"""A LeRobot dataset as a recording, read without LeRobot.

Its cameras have the names, and its states the numbers and units, that a policy trained on it has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_calibration import parquet
from vla_calibration.lerobot_episodes import EpisodeFiles, read_episodes, read_tasks
from vla_calibration.lerobot_info import FILE, STATE, Info, read_info
from vla_calibration.recording import Episode, Moment, PolicyInputs
from vla_calibration.video import frame_at
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.units import to_si

TIME, TASK = "timestamp", "task_index"


class LeRobotRecording:
    """A dataset in one of the formats v2.0, v2.1 and v3.0, on this machine's disk."""

    def __init__(self, root: Path, inputs: PolicyInputs) -> None:
        """Raises `BadInput` where ``root`` is damaged or does not fit the policy."""
        self._root, self._info, self._state = root, read_info(root), inputs.state
        self._cameras = _cameras(root, self._info, inputs.cameras)
        _check_state(root, self._info, inputs.state)
        films = [key for key in self._cameras.values() if self._info.features[key].dtype == "video"]
        files = read_episodes(root, self._info, films)
        self._files = {episode.number: episode for episode in files}
        self.name = f"LeRobot dataset {root.resolve().name} ({self._info.codebase_version})"
        self.episodes = tuple(_by_task(files, read_tasks(root, self._info)))
        if not any(episode.frames for episode in self.episodes):
            raise BadInput(f"{root} holds no frames: record at least two observations")

    def read(self, moments: Sequence[Moment]) -> Iterator[tuple[Moment, Observation]]:
        """See `Recording`."""
        tables: dict[Path, defaultdict[int, set[int]]] = {}
        for moment in sorted(moments):
            table = self._files[moment.episode].table
            tables.setdefault(table, defaultdict(set))[moment.episode].add(moment.frame)
        images = [key for key in self._cameras.values() if self._info.features[key].dtype == "image"]
        for table, wanted in tables.items():
            columns = [parquet.EPISODE, parquet.FRAME, TIME, STATE, *images]
            for row in parquet.frames(table, columns, wanted):
                moment = Moment(row[parquet.EPISODE], row[parquet.FRAME])
                wanted[moment.episode].discard(moment.frame)
                yield moment, self._observation(table, row)
            for episode, missing in wanted.items():
                if missing:
                    raise BadInput(
                        f"{table} lacks frame {min(missing)} of episode {episode}, of "
                        f"{self._files[episode].length}: the dataset is incomplete, copy it again"
                    )

    def _observation(self, table: Path, row: Mapping[str, Any]) -> Observation:
        state = np.asarray(row[STATE], dtype=np.float64).reshape(-1)
        if state.shape != (len(self._state.dimensions),):
            raise BadInput(
                f"{table}: frame {row[parquet.FRAME]} of episode {row[parquet.EPISODE]} has {len(state)} "
                f"numbers in {STATE}, expected {len(self._state.dimensions)}"
            )
        films = self._files[row[parquet.EPISODE]].films
        images: dict[str, NDArray[np.uint8]] = {}
        for camera, key in self._cameras.items():
            if key in films:
                images[camera] = frame_at(films[key].path, films[key].start + row[TIME], 0.5 / self._info.fps)
            else:
                images[camera] = _picture(table, row[key])
        return Observation(images, to_si(state, self._state))


def _cameras(root: Path, info: Info, wanted: Mapping[str, str]) -> dict[str, str]:
    """The robot's name of each camera → the key of its feature."""
    found = info.cameras
    missing = [trained for trained in wanted.values() if trained not in found]
    if missing:
        raise BadInput(
            f"{root} has no camera {', '.join(missing)}: the policy was trained on {', '.join(wanted.values())}, the "
            f"dataset holds {', '.join(sorted(found)) or 'none'}"
        )
    return {camera: found[trained] for camera, trained in wanted.items()}


def _check_state(root: Path, info: Info, space: Space) -> None:
    feature, names = info.features.get(STATE), [d.name for d in space.dimensions]
    if feature is None:
        raise BadInput(f"{root / FILE}: no feature {STATE}: the policy's state is {', '.join(names)}")
    if feature.shape != (len(names),):
        raise BadInput(
            f"{root / FILE}: {STATE} has the shape {list(feature.shape)}; the policy's state has {len(names)} numbers: "
            f"{', '.join(names)}"
        )
    recorded = next(iter(feature.names.values()), None) if isinstance(feature.names, dict) else feature.names
    if isinstance(recorded, list) and recorded != names and sorted(map(str, recorded)) == sorted(names):
        raise BadInput(
            f"{root / FILE}: {STATE} has the order {', '.join(recorded)}; the policy's is {', '.join(names)}: it was "
            "not trained on this dataset, or deployment.yaml has another order"
        )


def _by_task(files: Sequence[EpisodeFiles], tasks: Mapping[int, str]) -> Iterator[Episode]:
    """Each episode, or, where its task changes, what it holds of each task."""
    for episode in files:
        if len(episode.tasks) == 1:
            yield Episode(episode.number, episode.tasks[0], range(episode.length))
            continue
        found: defaultdict[int, list[int]] = defaultdict(list)
        for row in parquet.frames(episode.table, [parquet.FRAME, TASK], {episode.number: range(episode.length)}):
            found[row[TASK]].append(row[parquet.FRAME])
        for task, numbers in sorted(found.items()):
            yield Episode(episode.number, tasks.get(task), numbers)


def _picture(table: Path, cell: Mapping[str, Any] | None) -> NDArray[np.uint8]:
    """An image that lies in a table, encoded. RGB, shape (height, width, 3)."""
    encoded = np.frombuffer((cell or {}).get("bytes") or b"", dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise BadInput(f"{table} holds an image that cannot be decoded: copy the dataset again")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
