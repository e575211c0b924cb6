from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from tests.vla_runtime.safety.mujoco_arm import GEOMETRY
from vla_runtime.safety.arm_geometry import Shape
from vla_runtime.safety.capsules import around, capsules_of, segment_distances

points = arrays(np.float64, 3, elements=st.floats(-1, 1))
turns = st.floats(-3, 3).map(lambda a: np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]))
RADIUS = 0.05


def mujoco_distance(a, b, c, d):
    """Between two segments, as the distance of capsules around them."""
    spec = mujoco.MjSpec()
    for start, end in ((a, b), (c, d)):
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[*start, *end], size=[RADIUS, 0, 0], contype=0, conaffinity=0
        )
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return mujoco.mj_geomDistance(model, data, 0, 1, 10.0, np.zeros(6)) + 2 * RADIUS


@given(points, points, points, points)
def test_distances_of_segments_are_mujocos(a, b, c, d):
    if min(np.linalg.norm(b - a), np.linalg.norm(d - c)) < 1e-2:
        return
    ours = float(segment_distances(a, b, c, d))
    if ours > 1e-3:
        assert_allclose(ours, mujoco_distance(a, b, c, d), atol=1e-6)


@given(points, points, points, points, st.floats(0, 1), st.floats(0, 1))
def test_no_two_points_of_the_segments_are_nearer(a, b, c, d, s, t):
    assert segment_distances(a, b, c, d) <= np.linalg.norm(a + s * (b - a) - c - t * (d - c)) + 1e-9


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "distance"),
    [
        ((0, 0, 0), (0, 0, 0), (0, 0, 3), (0, 0, 3), 3.0),
        ((0, 0, 0), (0, 0, 0), (-1, 2, 0), (1, 2, 0), 2.0),
        ((0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 2, 0), 2.0),
        ((0, 0, 0), (1, 0, 0), (3, 0, 0), (5, 0, 0), 2.0),
        ((-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), 0.0),
    ],
)
def test_points_parallels_and_crossings(a, b, c, d, distance):
    assert_allclose(segment_distances(*(np.array(p, dtype=float) for p in (a, b, c, d))), distance, atol=1e-12)


@given(
    st.sampled_from(["box", "cylinder", "capsule", "sphere"]),
    arrays(np.float64, 3, elements=st.floats(0.005, 0.1)),
    turns,
    points,
    arrays(np.float64, 3, elements=st.floats(-1, 1)),
)
def test_a_capsule_holds_all_of_its_shape(kind, size, turn, place, sample):
    size = size * {"box": (1, 1, 1), "cylinder": (1, 1, 0), "capsule": (1, 1, 0), "sphere": (1, 0, 0)}[kind]
    capsule = around(Shape(kind, size, 0, turn, place))
    if kind == "box":
        inner = sample * size
    else:
        across = np.append(sample[:2] / max(1.0, np.linalg.norm(sample[:2])) * size[0], 0.0)
        inner = across + np.array([0, 0, sample[2] * size[1]])
    point = place + turn @ inner
    assert segment_distances(point, point, *capsule.ends) <= capsule.radius + 1e-9


def test_every_shape_of_the_arm_is_held_by_one_of_its_bodys():
    capsules = capsules_of(GEOMETRY)
    for shape in GEOMETRY.shapes:
        own = around(shape)
        assert any(
            c.body == shape.body
            and all(segment_distances(end, end, *c.ends) + own.radius <= c.radius + 1e-9 for end in own.ends)
            for c in capsules
        )
