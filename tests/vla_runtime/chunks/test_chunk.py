from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import BadInput


@pytest.mark.parametrize(
    ("times", "positions"),
    [
        (np.array([]), np.zeros((0, 7))),
        (np.array([0.0, 0.1]), np.zeros((3, 7))),
        (np.array([0.0, 0.1]), np.zeros((2, 6))),
        (np.array([[0.0, 0.1]]), np.zeros((2, 7))),
    ],
)
def test_shapes_that_disagree_are_refused(times, positions):
    with pytest.raises(BadInput, match=r"times \(H,\) and positions \(H, 7\)"):
        ActionChunk(0.0, times, positions)


@pytest.mark.parametrize("times", [[0.0, 0.0], [0.1, 0.0], [0.0, np.nan], [0.0, np.inf]])
def test_times_that_do_not_increase_are_refused(times):
    with pytest.raises(BadInput, match="strictly increasing"):
        ActionChunk(0.0, np.array(times), np.zeros((2, 7)))
