"""Which dimensions of an action are relative to the state, by the rule of LeRobot and openpi."""

from __future__ import annotations

from collections.abc import Sequence


def relative_dimensions(numbers: int, exclude: Sequence[str], names: Sequence[str] | None) -> tuple[bool, ...]:
    """True for each of an action's dimensions that counts from the state.

    exclude: words; a dimension whose name contains one stays absolute, upper and lower case being the same. names: of
    the dimensions; without them all are relative, and so are those beyond the last name.
    Source: ``RelativeActionsProcessorStep._build_mask`` in lerobot/processor/relative_action_processor.py.
    """
    words = [word.lower() for word in exclude if word]
    known = [name.lower() for name in (names or ())[:numbers]]
    absolute = [any(word in name for word in words) for name in known]
    return tuple(not is_absolute for is_absolute in absolute) + (True,) * (numbers - len(known))
