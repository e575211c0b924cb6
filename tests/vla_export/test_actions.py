"""The effect of a change on actions: known differences in known units."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy_policy import ACTION
from vla_export.actions import ActionEffect, compare_actions
from vla_export.checkpoints.normalisation import identity
from vla_runtime.bundle.manifest import Dimension, Space
from vla_runtime.errors import WorkFailed


def chunks(count: int, seed: int = 0) -> list[torch.Tensor]:
    return list(torch.randn(count, 1, 5, 8, generator=torch.Generator().manual_seed(seed)))


def test_the_same_actions_have_no_effect() -> None:
    effect = compare_actions(chunks(3), chunks(3), ACTION)
    assert effect.samples == 3
    assert effect.relative_error == effect.worst_relative_error == 0.0
    assert effect.cosine == pytest.approx(1.0)
    assert all(d.mean_error == d.max_error == 0.0 for d in effect.dimensions)


def test_one_number_off_shows_in_its_own_unit() -> None:
    before, after = chunks(3), chunks(3)
    after[1][0, 4, 6] += 0.25
    effect = compare_actions(before, after, ACTION)

    used = torch.cat(before)[..., :7]
    assert effect.relative_error == pytest.approx(0.25 / used.norm().item(), rel=1e-6)
    assert effect.worst_sample == 1
    assert effect.worst_relative_error == pytest.approx(0.25 / used[1].norm().item(), rel=1e-6)
    gripper = effect.dimensions[6]
    assert (gripper.name, gripper.unit) == ("grip", "m")
    assert gripper.max_error == pytest.approx(0.25 * 0.02, rel=1e-6)
    assert gripper.mean_error == pytest.approx(0.25 * 0.02 / (3 * 5), rel=1e-6)
    assert all(d.max_error == 0.0 for d in effect.dimensions[:6])


def test_padding_does_not_count() -> None:
    before, after = chunks(2), chunks(2)
    for chunk in after:
        chunk[..., 7:] = 100.0
    assert compare_actions(before, after, ACTION).relative_error == 0.0


def test_whatever_a_policy_speaks_its_errors_are_told_in_si() -> None:
    integers = tuple(Dimension(name=d.name, unit="0.001deg") for d in ACTION.dimensions)
    before, after = chunks(1), chunks(1)
    after[0][..., 0] += 2.0
    effect = compare_actions(before, after, ACTION.model_copy(update={"dimensions": integers})).dimensions[0]
    assert effect.unit == "rad"
    assert effect.max_error == pytest.approx(math.radians(2.0 * 0.5e-3), rel=1e-5)


def test_an_unnormalised_space_is_in_its_own_units_already() -> None:
    space = Space(dimensions=ACTION.dimensions, normalisation=identity(7), padded_to=8)
    before, after = chunks(1), chunks(1)
    after[0][..., 0] += 0.5
    assert compare_actions(before, after, space).dimensions[0].mean_error == pytest.approx(0.5, rel=1e-6)


@settings(deadline=None)
@given(factor=st.floats(0.1, 3.0), turn=st.floats(0.0, math.pi))
def test_scaling_and_turning_give_their_textbook_error_and_cosine(factor: float, turn: float) -> None:
    before, other = torch.zeros(1, 5, 8), torch.zeros(1, 5, 8)
    before[0, 0, 0], other[0, 2, 3] = 2.0, 2.0
    after = factor * (math.cos(turn) * before + math.sin(turn) * other)
    effect = compare_actions([before], [after], ACTION)
    assert effect.cosine == pytest.approx(math.cos(turn), abs=1e-6)
    law_of_cosines = math.sqrt(max(0.0, 1 + factor**2 - 2 * factor * math.cos(turn)))
    assert effect.relative_error == pytest.approx(law_of_cosines, abs=1e-5)


def test_actions_that_are_not_finite_are_an_error() -> None:
    broken = chunks(3)
    broken[2][0, 0, 0] = math.nan
    with pytest.raises(WorkFailed, match="changed policy: the actions of sample 2 are not finite"):
        compare_actions(chunks(3), broken, ACTION)


def test_a_reference_that_never_moves_has_no_relative_error() -> None:
    with pytest.raises(WorkFailed, match="sample 0 are all zero"):
        compare_actions([torch.zeros(1, 5, 8)], chunks(1), ACTION)


def test_the_report_survives_json() -> None:
    effect = compare_actions(chunks(2), chunks(2, seed=1), ACTION)
    assert ActionEffect.model_validate_json(effect.model_dump_json()) == effect
