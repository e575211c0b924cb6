"""How far an episode's looks may be from those of training."""

import pytest

from vla_runtime.errors import BadInput
from vla_runtime.sim.perturbation import NOMINAL, Perturbation


def test_nominal_adds_nothing():
    assert Perturbation(light=0.0, camera_shift=0.0, distractors=0) == NOMINAL


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"light": 1.5}, "light 1.5"),
        ({"camera_shift": -0.1}, "camera_shift -0.1"),
        ({"camera_shift": float("nan")}, "camera_shift nan"),
        ({"distractors": 4}, "distractors 4"),
        ({"side_camera": 1.1}, "side_camera 1.1"),
    ],
)
def test_what_is_out_of_range_is_refused(values, message):
    with pytest.raises(BadInput, match=message):
        Perturbation(**values)
