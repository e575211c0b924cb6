"""What LeRobot 0.6.1 makes of a few images: the golden file that `letterbox` is compared with.

Run in an environment with ``lerobot[pi,smolvla]==0.6.1`` (Python 3.12):

    python tests/oracles/letterbox_lerobot.py tests/vla_runtime/policy/data/letterbox_lerobot_0.6.1.npz

Each case is an image and what becomes of it on two paths, both from float32 in [0, 1] and to x * 2 - 1:

- ``both``: PI0Policy._preprocess_images, by resize_with_pad_torch;
- ``left_top``: SmolVLAPolicy.prepare_images, by resize_with_pad with a pad_value of 0.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from lerobot.policies.common.vla_utils import resize_with_pad, resize_with_pad_torch

# (image height, width), (policy height, width): wider, taller, odd padding, enlarged, same size, not square
CASES = (
    ((48, 64), (32, 32)),
    ((37, 23), (32, 32)),
    ((31, 53), (24, 24)),
    ((9, 14), (32, 32)),
    ((32, 32), (32, 32)),
    ((40, 30), (24, 32)),
)


def both(image: np.ndarray, height: int, width: int) -> np.ndarray:
    pixels = torch.from_numpy(image).to(torch.float32)[None] / 255
    if pixels.shape[1:3] != (height, width):
        pixels = resize_with_pad_torch(pixels, height, width)
    return (pixels * 2.0 - 1.0)[0].permute(2, 0, 1).numpy()


def left_top(image: np.ndarray, height: int, width: int) -> np.ndarray:
    pixels = torch.from_numpy(image).to(torch.float32).permute(2, 0, 1)[None] / 255
    return (resize_with_pad(pixels, height, width, pad_value=0) * 2.0 - 1.0)[0].numpy()


def main(path: str) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for n, (shape, target) in enumerate(CASES):
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        arrays[f"image_{n}"] = image
        arrays[f"both_{n}"] = both(image, *target)
        arrays[f"left_top_{n}"] = left_top(image, *target)
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
