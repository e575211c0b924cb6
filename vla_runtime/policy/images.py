"""Camera image → what the policy saw in training: letterboxed, in [-1, 1], channels first."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput
from vla_runtime.policy.smooth_resize import smooth_resize

BLACK = -1.0


def letterbox(
    image: NDArray[Any],
    height: int,
    width: int,
    padding: Literal["both", "left_top"] = "both",
    bars: float = BLACK,
    resize: Literal["bilinear", "smooth"] = "bilinear",
) -> NDArray[np.float32]:
    """Fit an image into (height, width) without distortion, with bars beside it.

    image: RGB, uint8. Shape (h, w, 3), any size.
    padding: ``both`` centres the image, the odd pixel of padding at the bottom and right, as LeRobot's π0 and π0.5 do
    (``resize_with_pad_torch`` in lerobot/policies/common/vla_utils.py); ``left_top`` puts it at the bottom right, as
    its SmolVLA does (``resize_with_pad``, same file).
    resize: ``bilinear`` is that of both, on floats, with half-pixel centres and no smoothing; ``smooth`` is openpi's,
    Pillow's on bytes (``resize_with_pad`` in openpi_client/image_tools.py). Sizes are rounded down.
    Returns float32: the image in [-1, 1], ``bars`` elsewhere. Shape (3, height, width).

    Raises `BadInput` for another dtype or shape, or an image so narrow that nothing of it would be left.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise BadInput(f"an image must be uint8 RGB of shape (height, width, 3), got {image.dtype} {image.shape}")
    ratio = max(image.shape[1] / width, image.shape[0] / height)
    inner_height, inner_width = int(image.shape[0] / ratio), int(image.shape[1] / ratio)
    if inner_height == 0 or inner_width == 0:
        raise BadInput(f"an image of {image.shape[1]}×{image.shape[0]} pixels leaves nothing in {width}×{height}")
    pixels: NDArray[Any] = image.astype(np.float32)
    if resize == "smooth":
        pixels = smooth_resize(image, inner_height, inner_width).astype(np.float32)
    elif image.shape[:2] != (inner_height, inner_width):
        pixels = cv2.resize(pixels, (inner_width, inner_height), interpolation=cv2.INTER_LINEAR)
    top, left = height - inner_height, width - inner_width
    if padding == "both":
        top, left = top // 2, left // 2
    boxed = np.full((3, height, width), bars, np.float32)
    scaled = np.clip(pixels / np.float32(255), 0, 1) * np.float32(2) - np.float32(1)
    boxed[:, top : top + inner_height, left : left + inner_width] = scaled.transpose(2, 0, 1)
    return boxed
