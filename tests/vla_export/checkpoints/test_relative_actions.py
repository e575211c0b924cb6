from __future__ import annotations

import pytest

from vla_export.checkpoints.relative_actions import relative_dimensions


@pytest.mark.parametrize(
    ("exclude", "names", "relative"),
    [
        ([], ["a", "gripper"], (True, True, True)),
        (["gripper"], None, (True, True, True)),
        (["gripper"], ["a", "left_gripper.pos", "c"], (True, False, True)),
        (["GRIP"], ["a", "b", "Gripper"], (True, True, False)),
        (["", "a"], ["a", "b", "c"], (False, True, True)),
        (["c"], ["a", "b"], (True, True, True)),
        (["d"], ["a", "b", "c", "d"], (True, True, True)),
    ],
)
def test_a_dimension_stays_absolute_when_its_name_holds_an_excluded_word(
    exclude: list[str], names: list[str] | None, relative: tuple[bool, ...]
) -> None:
    assert relative_dimensions(3, exclude, names) == relative
