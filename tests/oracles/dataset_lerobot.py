"""Writes two tiny datasets as LeRobot records them, and what it reads back from them.

Each format needs the release that wrote it, in an environment of its own; both run offline, on the CPU, in seconds.
They decode with torchcodec, which needs FFmpeg 7's libraries where the loader finds them:

    python3.12 -m venv new-env && new-env/bin/pip install "lerobot[dataset]==0.6.1"
    new-env/bin/python tests/oracles/dataset_lerobot.py         # format v3.0
    python3.12 -m venv old-env && old-env/bin/pip install "lerobot==0.3.3" "av<16"
    old-env/bin/python tests/oracles/dataset_lerobot.py         # format v2.1

Written under ``tests/oracles/goldens/lerobot_dataset_v3.0`` or ``…_v2.1``: a dataset of three episodes of two tasks,
with a camera ``side`` in videos (AV1, as LeRobot encodes by default) and a camera ``wrist`` in PNGs inside the Parquet
files; and beside it ``lerobot_dataset_….safetensors``: every item that LeRobot reads: its episode, its number in it,
its state, and both images as bytes, (height, width, 3). The tasks are in its metadata, one a line.
"""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the libraries below are imported

import numpy as np
import torch
from lerobot.datasets import lerobot_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from safetensors.torch import save_file

GOLDENS = Path(__file__).parent / "goldens"
FPS = 10
HEIGHT, WIDTH = 24, 32
NAMES = [*(f"joint{n}" for n in range(1, 7)), "gripper"]
EPISODES = (("pick up the red cube", 3), ("push the blue cube", 2), ("pick up the red cube", 4))
CAMERAS = {"side": "video", "wrist": "image"}


def features() -> dict[str, dict[str, object]]:
    shape = (HEIGHT, WIDTH, 3)
    images = {
        f"observation.images.{name}": {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]}
        for name, kind in CAMERAS.items()
    }
    joints = {"dtype": "float32", "shape": (len(NAMES),), "names": NAMES}
    return {**images, "observation.state": joints, "action": joints}


def picture(episode: int, frame: int, camera: int) -> np.ndarray:
    """A smooth picture that no other frame resembles: a bright square on a slope of the episode's colour."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([60 * episode + 2 * x, 40 + 4 * y, 90 * camera + x + y], axis=-1).astype(np.uint8)
    image[4 : 12 + 4 * camera, 5 * frame : 5 * frame + 6] = 250
    return image


def record(root: Path) -> None:
    generator = np.random.default_rng(20_250_115)
    dataset = LeRobotDataset.create("golden/cubes", FPS, features(), root=root, robot_type="piper")
    task_is_an_argument = "task" in inspect.signature(dataset.add_frame).parameters
    for episode, (task, length) in enumerate(EPISODES):
        for number in range(length):
            frame = {f"observation.images.{name}": picture(episode, number, n) for n, name in enumerate(CAMERAS)}
            frame["observation.state"] = generator.normal(size=len(NAMES)).astype(np.float32)
            frame["action"] = generator.normal(size=len(NAMES)).astype(np.float32)
            if task_is_an_argument:
                dataset.add_frame(frame, task)
            else:
                dataset.add_frame({**frame, "task": task})
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()


def read(root: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    items = list(LeRobotDataset("golden/cubes", root=root))
    found = {
        "episode": torch.stack([item["episode_index"] for item in items]),
        "frame": torch.stack([item["frame_index"] for item in items]),
        "state": torch.stack([item["observation.state"] for item in items]),
    }
    for name in CAMERAS:
        images = torch.stack([item[f"observation.images.{name}"] for item in items])
        found[name] = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return found, [item["task"] for item in items]


if __name__ == "__main__":
    name = f"lerobot_dataset_{lerobot_dataset.CODEBASE_VERSION}"
    root = GOLDENS / name
    shutil.rmtree(root, ignore_errors=True)
    record(root)
    shutil.rmtree(root / "images", ignore_errors=True)  # where LeRobot kept the frames until it had encoded them
    found, tasks = read(root)
    save_file(found, GOLDENS / f"{name}.safetensors", metadata={"tasks": "\n".join(tasks)})
