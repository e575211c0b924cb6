"""What can go wrong with the engine."""

from __future__ import annotations

import numpy as np

from tests.faults import injections as do
from tests.faults.case import BY_ITSELF, HOLDING, NOTHING, PERIOD, Fault, harmless, variant
from tests.faults.world import SETTINGS

_NO_CHUNK = Fault(
    "Engine",
    "",
    do.nothing,
    HOLDING,
    r"^newest chunk is 0\.5\d\d s old, limit 0\.500 s",
    SETTINGS.chunk_timeout + PERIOD,
    "`chunk_timeout`, 0.5 s",
    BY_ITSELF,
    do.engine_well,
)
_STOPPED = variant(_NO_CHUNK, "", do.nothing, goes_on="resume", because="the arm's way there at its speed limit")
_INTO_THE_BASE = (0.1, 1.01, -0.21, -0.1, 0.96, -0.14, 0.03)  # [rad], [m]

CASES = (
    variant(_NO_CHUNK, "every answer takes 0.7 s longer", do.inference_takes(0.7)),
    harmless("Engine", "every answer takes 0.1 s longer", do.inference_takes(0.1)),
    variant(_NO_CHUNK, "it never answers again", do.engine_hangs, goes_on=NOTHING, mend=None),
    variant(_NO_CHUNK, "every inference fails", do.engine_fails),
    variant(
        _NO_CHUNK,
        "an error nobody foresaw: the policy node goes down",
        do.engine_breaks,
        reason=r"^(policy is 0\.2\d\d s old|newest chunk is 0\.5\d\d s old)",
        because="watchdog of the policy, or `chunk_timeout`",
        goes_on=NOTHING,
        mend=None,
    ),
    variant(_NO_CHUNK, "NaN in its actions", do.actions(lambda asked: asked * np.nan)),
    variant(_NO_CHUNK, "infinite actions", do.actions(lambda asked: asked + np.inf)),
    harmless("Engine", "joint 1 asked 10 rad away: it goes to its limit", do.actions(do.asking(0, 10.0))),
    harmless("Engine", "gripper asked to open 1 m: it goes to its limit", do.actions(do.asking(6, 1.0))),
    variant(
        _STOPPED,
        "joint 2 asked 10 rad away: below the table",
        do.actions(do.asking(1, 10.0)),
        reason="table",
        within=5.0,
    ),
    variant(
        _STOPPED,
        "asked to where the gripper meets the base",
        do.actions(do.everywhere(_INTO_THE_BASE)),
        reason="^base and finger_left would come too near each other$",
        within=5.0,
    ),
    harmless("Engine", "to and fro between the ends of joint 1", do.actions(do.extremes)),
    variant(
        _STOPPED,
        "random actions for every joint",
        do.actions(do.random_actions),
        reason="would come too near",
        within=5.0,
    ),
)
