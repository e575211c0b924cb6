"""The measure of how far actions moved, and the refusal of what is beyond the budget."""

from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest
import torch

from tests.toy_policy import ACTION
from vla_export.error_budget import ActionError, action_errors, check_error_budget, squared_errors, within, worst
from vla_runtime.errors import WorkFailed

WELL, ILL = ActionError(name="joint1", rms=0.004), ActionError(name="grip", rms=0.0234)


def test_errors_are_squares_in_units_of_the_scale() -> None:
    """What a chunk is off by in the robot's units, divided by the scale of its normalisation."""
    generator = torch.Generator().manual_seed(0)
    reference, changed = (torch.randn(1, 5, 8, generator=generator) for _ in range(2))
    scale = np.array(ACTION.normalisation.scale)
    moved = [chunk[0, :, :7].double().numpy() * scale + ACTION.normalisation.offset for chunk in (reference, changed)]
    expected = (((moved[1] - moved[0]) / scale) ** 2).mean(0)
    assert squared_errors(reference, changed, ACTION).tolist() == pytest.approx(expected.tolist())


def test_errors_of_several_samples_are_their_root_mean_square() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, changed = ([torch.randn(1, 5, 8, generator=generator) for _ in range(3)] for _ in range(2))
    found = action_errors(reference, changed, ACTION)
    difference = (torch.cat(changed) - torch.cat(reference))[..., :7].double()
    assert [error.name for error in found] == [dimension.name for dimension in ACTION.dimensions]
    assert [error.rms for error in found] == pytest.approx(difference.square().mean((0, 1)).sqrt().tolist())


def test_within_the_budget_nothing_is_refused() -> None:
    check_error_budget("--merge static", [WELL], 0.004, "do otherwise")
    assert within([WELL], 0.004)


@pytest.mark.parametrize("rms", [0.0234, inf, nan])
def test_beyond_it_the_worst_is_named_with_every_way_out(rms: float) -> None:
    errors = [WELL, ActionError(name="grip", rms=rms), WELL]
    with pytest.raises(WorkFailed) as caught:
        check_error_budget("--merge static", errors, 0.01, "use --merge auto")
    message = str(caught.value)
    assert f"--merge static moves grip by {rms:.2%} of its scale" in message
    for part in ("error budget of 1.00%", "no bundle was written", "use --merge auto", "--error-budget", "--force"):
        assert part in message


def test_the_worst_is_the_largest_and_no_number_is_worse_than_any() -> None:
    unknown = ActionError(name="joint2", rms=nan)
    assert worst([WELL, ILL]) == ILL
    assert worst([WELL, unknown, ILL]) is unknown
    assert not within([WELL, unknown], 1.0)
