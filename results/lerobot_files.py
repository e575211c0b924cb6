"""Episodes as a LeRobot dataset of format v2.1, pictures in its tables."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from results.moment import Moment
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.sim.episode import CONTROL_PERIOD

_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_STATE, _IMAGES = "observation.state", "observation.images."


def write(directory: Path, episodes: Sequence[Sequence[Moment]]) -> None:
    """Write all files beside their place and rename. Raises `ValueError` for more than 1,000 episodes, or an empty one.

    https://github.com/huggingface/lerobot/blob/v0.3.3/lerobot/common/datasets/utils.py names the files and their keys.
    """
    if len(episodes) > 1000 or not all(episodes):
        raise ValueError(f"{len(episodes)} episodes: expected at most 1,000, and none without frames")
    partial = directory.with_name(f".{directory.name}.partial-{secrets.token_hex(4)}")
    try:
        _write(partial, episodes)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(root: Path, episodes: Sequence[Sequence[Moment]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    tasks = list(dict.fromkeys(episode[0].instruction for episode in episodes))
    for number, episode in enumerate(episodes):
        table = pa.Table.from_pylist(list(_rows(number, tasks.index(episode[0].instruction), episode)))
        pq.write_table(table, root / _DATA.format(episode_chunk=0, episode_index=number))
    _write_lines(root / "meta/tasks.jsonl", ({"task_index": n, "task": task} for n, task in enumerate(tasks)))
    _write_lines(
        root / "meta/episodes.jsonl",
        (
            {"episode_index": number, "tasks": [episode[0].instruction], "length": len(episode)}
            for number, episode in enumerate(episodes)
        ),
    )
    (root / "meta/info.json").write_text(json.dumps(_info(episodes, tasks), indent=2) + "\n", encoding="utf-8")


def _rows(number: int, task: int, episode: Sequence[Moment]) -> Iterable[dict[str, Any]]:
    for frame, moment in enumerate(episode):
        images = moment.observation.images
        yield {
            _STATE: moment.observation.state.astype(np.float32).tolist(),
            **{f"{_IMAGES}{camera}": {"bytes": _png(image), "path": None} for camera, image in images.items()},
            "timestamp": frame * CONTROL_PERIOD,
            "frame_index": frame,
            "episode_index": number,
            "task_index": task,
        }


def _info(episodes: Sequence[Sequence[Moment]], tasks: Sequence[str]) -> dict[str, Any]:
    images = episodes[0][0].observation.images
    pictures = {
        f"{_IMAGES}{camera}": {"dtype": "image", "shape": list(image.shape), "names": ["height", "width", "channel"]}
        for camera, image in images.items()
    }
    return {
        "codebase_version": "v2.1",
        "robot_type": "piper",
        "total_episodes": len(episodes),
        "total_frames": sum(map(len, episodes)),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "fps": round(1 / CONTROL_PERIOD),
        "data_path": _DATA,
        "video_path": None,
        "features": {
            _STATE: {"dtype": "float32", "shape": [len(JOINT_NAMES)], "names": list(JOINT_NAMES)},
            **pictures,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: {"dtype": "int64", "shape": [1], "names": None} for name in _INDICES},
        },
    }


_INDICES = ("frame_index", "episode_index", "task_index")


def _write_lines(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries), encoding="utf-8")


def _png(image: NDArray[Any]) -> bytes:
    written, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not written:
        raise ValueError(f"a picture of the shape {image.shape} cannot be encoded")
    return encoded.tobytes()
