"""How far an export may move the policy's actions: the measure, and the refusal of what goes beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import WorkFailed

# Of each dimension's scale: a hundredth of how far the demonstrations themselves spread.
DEFAULT_BUDGET = 0.01


class ActionError(BaseModel):
    """RMS error of one dimension of the action, as a share of the policy's scale for it; see `squared_errors`."""

    model_config = ConfigDict(frozen=True)

    name: str
    rms: float


def squared_errors(reference: Tensor, changed: Tensor, action: Space) -> Tensor:
    """Mean squared error of each dimension of the action over a chunk, float64, in units of ``normalisation.scale``².

    The unit is the dimension's standard deviation in training where the policy normalises by it, half its range where
    it normalises by a range, and 1 in the dimension's own unit where it does not normalise. Chunks are (1, H,
    action.padded_to), normalised; padding is left out.
    """
    used = len(action.dimensions)
    return (changed[..., :used].double() - reference[..., :used].double()).square().mean((0, 1))


def action_errors(reference: Sequence[Tensor], changed: Sequence[Tensor], action: Space) -> tuple[ActionError, ...]:
    """Of each dimension of the action, over the chunks of all samples; chunks as in `squared_errors`."""
    squares = [squared_errors(*chunks, action) for chunks in zip(reference, changed, strict=True)]
    errors = torch.stack(squares).mean(0).sqrt().tolist()
    return tuple(ActionError(name=d.name, rms=rms) for d, rms in zip(action.dimensions, errors, strict=True))


def worst(errors: Sequence[ActionError]) -> ActionError:
    """The dimension that is furthest off; one whose error is no number is further off than any."""
    return max(errors, key=lambda error: (error.rms != error.rms, error.rms))


def in_words(errors: Sequence[ActionError]) -> str:
    """The worst of them in one line."""
    found = worst(errors)
    return "no difference" if found.rms == 0 else f"{found.name} is furthest off, {found.rms:.2%} of its scale"


def within(errors: Sequence[ActionError], budget: float) -> bool:
    """Whether no dimension's error is above ``budget``; false for an error that is no number."""
    return all(error.rms <= budget for error in errors)


def check_error_budget(flag: str, errors: Sequence[ActionError], budget: float, remedy: str) -> None:
    """Raises `WorkFailed` where a stage moved the actions beyond ``budget``.

    flag: what the user typed for the stage. remedy: what to do instead, for the message, before the two ways that every
    stage has: another budget, and ``--force``.
    """
    if within(errors, budget):
        return
    found = worst(errors)
    raise WorkFailed(
        f"{flag} moves {found.name} by {found.rms:.2%} of its scale (RMS on held-out samples), beyond the error budget "
        f"of {budget:.2%}; no bundle was written: {remedy}, allow more with --error-budget, or add --force"
    )
