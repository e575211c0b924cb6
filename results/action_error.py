"""How far a bundle's actions are from another's and from the expert's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from results.moment import Moment
from results.opened import opened
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.errors import BadInput
from vla_runtime.policy.actions import policy_actions
from vla_runtime.policy.policy import Policy

_JOINTS = 6


@dataclass(frozen=True)
class ActionError:
    """Over all moments and the whole horizon.

    mean_joint_rad: mean absolute difference of the joints from the original's, in [rad].
    worst_share_of_scale: RMS difference of the action's number that is furthest off, as a share of the policy's own
        scale for it: what vla-export's error budget bounds.
    relative: ‖bundle − original‖ / ‖original‖, normalised as the policy speaks them.
    expert_rad: mean absolute difference of the bundle's joints from the expert's, in [rad].
    """

    mean_joint_rad: float
    worst_share_of_scale: float
    relative: float
    expert_rad: float


def action_error(bundle: Path, original: Path, held_out: Sequence[Moment]) -> ActionError:
    """Both bundles answer the same moments from the same noise. Raises `BadInput` where they do not act alike."""
    (ours, policy), (theirs, other) = opened(bundle), opened(original)
    if (ours.manifest.horizon, ours.manifest.action) != (theirs.manifest.horizon, theirs.manifest.action):
        raise BadInput(f"{bundle} and {original} have other actions or horizons: compare bundles of one checkpoint")
    changed, reference = _chunks(ours, policy, held_out), _chunks(theirs, other, held_out)
    spoken = [
        np.stack([_normalised(theirs, moment, chunk) for moment, chunk in zip(held_out, chunks, strict=True)])
        for chunks in (changed, reference)
    ]
    difference = spoken[0] - spoken[1]
    expert = np.stack([moment.expert for moment in held_out])
    return ActionError(
        mean_joint_rad=float(np.abs(changed - reference)[..., :_JOINTS].mean()),
        worst_share_of_scale=float(np.sqrt((difference**2).mean((0, 1))).max()),
        relative=float(np.linalg.norm(difference) / np.linalg.norm(spoken[1])),
        expert_rad=float(np.abs(changed - expert)[..., :_JOINTS].mean()),
    )


def _chunks(bundle: Bundle, policy: Policy, held_out: Sequence[Moment]) -> NDArray[np.float64]:
    """Shape (n, H, n_action), in SI units; the noise of each moment follows from its place."""
    shape = (1, bundle.manifest.horizon, bundle.manifest.action.padded_to)
    chunks = []
    for n, moment in enumerate(held_out):
        policy.set_task(moment.instruction)
        noise = np.random.default_rng(n).standard_normal(shape, dtype=np.float32)
        chunks.append(policy.infer(moment.observation, noise))
    return np.stack(chunks)


def _normalised(bundle: Bundle, moment: Moment, chunk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (H, n_action), without padding."""
    manifest = bundle.manifest
    spoken = policy_actions(chunk, moment.observation.state, manifest.state, manifest.action)
    return spoken[:, : len(manifest.action.dimensions)].astype(np.float64)
