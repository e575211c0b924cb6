"""π0.5's names in LeRobot: π0's but for the expert's adaptive norms and the projections of time and actions."""

from __future__ import annotations

from vla_export.checkpoints import paligemma_keys as paligemma
from vla_export.checkpoints.key_map import KeyMap

_ADAPTIVE = {f"{ours}.dense": f"{theirs}.dense" for ours, theirs in paligemma.NORMS.items()}

PI05_KEYS = KeyMap(
    modules={
        **paligemma.PALIGEMMA_MODULES,
        **paligemma.layers("expert", f"{paligemma.EXPERT}.model", _ADAPTIVE),
        "expert.norm.dense": f"{paligemma.EXPERT}.model.norm.dense",
        "action_in_proj": "model.action_in_proj",
        "action_out_proj": "model.action_out_proj",
        "time_mlp_in": "model.time_mlp_in",
        "time_mlp_out": "model.time_mlp_out",
    },
    tensors=paligemma.PALIGEMMA_TENSORS,
    renamed=paligemma.OLDER_PALIGEMMA,
    prefix="model.",
    stand_ins=paligemma.PALIGEMMA_STAND_INS,
    ignored=paligemma.PALIGEMMA_IGNORED,
)
