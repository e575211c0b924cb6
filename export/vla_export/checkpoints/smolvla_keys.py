"""SmolVLA's names in LeRobot: the one place that knows them, for weights and for adapters."""

from __future__ import annotations

from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.paligemma_keys import LINEARS, NORMS, SIGLIP_LAYER, layers

_VLM = "model.vlm_with_expert.vlm"
_TOWER = f"{_VLM}.model.vision_model"
_LANGUAGE = f"{_VLM}.model.text_model"
_EXPERT = "model.vlm_with_expert.lm_expert"

SMOLVLA_KEYS = KeyMap(
    modules={
        "vision.patch_embedding": f"{_TOWER}.embeddings.patch_embedding",
        **layers("vision.stack", f"{_TOWER}.encoder", SIGLIP_LAYER),
        "vision.stack.norm": f"{_TOWER}.post_layernorm",
        "projector": f"{_VLM}.model.connector.modality_projection.proj",
        "embedding": f"{_LANGUAGE}.embed_tokens",
        **layers("language", _LANGUAGE, LINEARS | NORMS),
        **layers("expert", _EXPERT, LINEARS | NORMS),
        "expert.norm": f"{_EXPERT}.norm",
        "state_proj": "model.state_proj",
        "action_in_proj": "model.action_in_proj",
        "action_out_proj": "model.action_out_proj",
        "action_time_mlp_in": "model.action_time_mlp_in",
        "action_time_mlp_out": "model.action_time_mlp_out",
    },
    tensors={"vision.position_embedding": f"{_TOWER}.embeddings.position_embedding.weight"},
    renamed=(  # saved from a policy that torch.compile had wrapped
        ("model._orig_mod.vlm_with_expert.", "model.vlm_with_expert."),
        ("model._orig_mod.state_", "model.state_"),
        ("model._orig_mod.action_", "model.action_"),
    ),
    prefix="model.",
    stand_ins={f"{_LANGUAGE}.embed_tokens.weight": f"{_VLM}.lm_head.weight"},
    ignored={
        f"{_VLM}.lm_head.weight": "the policy writes no words",
        f"{_LANGUAGE}.norm.weight": "only keys and values of the language model are read, not its last output",
    },
)
