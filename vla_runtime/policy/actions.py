"""What the flow ends in → targets for the robot, absolute and in SI; and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Space
from vla_runtime.policy.statistics import renormalise, unnormalise
from vla_runtime.policy.units import from_si, to_si


def absolute_actions(
    chunk: NDArray[np.float32], observed: NDArray[Any], state: Space, action: Space
) -> NDArray[np.float64]:
    """The actions in SI units. Shape (H, n_action).

    chunk: normalised and padded. Shape (H, action.padded_to).
    observed: the state the chunk answers, in SI units. Shape (n_state,). A relative dimension of the action is counted
    from the same dimension of it, both in the policy's units (lerobot/processor/relative_action_processor.py).
    """
    actions = unnormalise(chunk, action)
    relative = np.flatnonzero(action.relative)
    actions[:, relative] += from_si(observed, state)[relative]
    return to_si(actions, action)


def policy_actions(
    actions: NDArray[np.float64], observed: NDArray[Any], state: Space, action: Space
) -> NDArray[np.float32]:
    """The inverse of `absolute_actions`: what the flow would have to end in. Shape (n, action.padded_to).

    actions: in SI units. Shape (n, n_action). observed: the state that a new chunk answers, which is not the one that
    these actions were inferred from: a relative dimension is counted from the new one.
    """
    values = from_si(actions, action)
    relative = np.flatnonzero(action.relative)
    values[:, relative] -= from_si(observed, state)[relative]
    return renormalise(values, action)
