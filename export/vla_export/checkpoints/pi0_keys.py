"""π0's names in LeRobot: the one place that knows them, for weights and for adapters."""

from __future__ import annotations

from vla_export.checkpoints import paligemma_keys as paligemma
from vla_export.checkpoints.key_map import KeyMap

PI0_KEYS = KeyMap(
    modules={
        **paligemma.PALIGEMMA_MODULES,
        **paligemma.layers("expert", f"{paligemma.EXPERT}.model", paligemma.NORMS),
        "expert.norm": f"{paligemma.EXPERT}.model.norm",
        "state_proj": "model.state_proj",
        "action_in_proj": "model.action_in_proj",
        "action_out_proj": "model.action_out_proj",
        "action_time_mlp_in": "model.action_time_mlp_in",
        "action_time_mlp_out": "model.action_time_mlp_out",
    },
    tensors=paligemma.PALIGEMMA_TENSORS,
    renamed=paligemma.OLDER_PALIGEMMA,
    prefix="model.",
    stand_ins=paligemma.PALIGEMMA_STAND_INS,
    ignored=paligemma.PALIGEMMA_IGNORED,
)
