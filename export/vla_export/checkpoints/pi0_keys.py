"""π0's names in LeRobot: the one place that knows them, for weights and for adapters.

Newest is LeRobot 0.6. Releases of spring 2025 and projects that grew from them, LoRA-SP among them, nest the language
model the other way round and lack the inner ``model``.
"""

from __future__ import annotations

from vla_export.checkpoints.key_map import KeyMap

_VLM = "model.paligemma_with_expert.paligemma"
_TOWER = f"{_VLM}.model.vision_tower.vision_model"
_LANGUAGE = f"{_VLM}.model.language_model"
_EXPERT = "model.paligemma_with_expert.gemma_expert"

_SIGLIP_LAYER = {
    "input_norm": "layer_norm1",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.out_proj",
    "post_norm": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_GEMMA_LAYER = {
    "input_norm": "input_layernorm",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "post_norm": "post_attention_layernorm",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
}

_STEM_LAYER = {"convolution": "convolution", "norm": "norm"}  # no model of LeRobot has one: the names are ours

PI0_KEYS = KeyMap(
    modules={
        "vision.patch_embedding": f"{_TOWER}.embeddings.patch_embedding",
        **{f"vision.stack.layers.{{n}}.{o}": f"{_TOWER}.encoder.layers.{{n}}.{t}" for o, t in _SIGLIP_LAYER.items()},
        "vision.stack.norm": f"{_TOWER}.post_layernorm",
        **{f"vision.layers.{{n}}.{o}": f"{_TOWER}.stem.layers.{{n}}.{t}" for o, t in _STEM_LAYER.items()},
        "projector": f"{_VLM}.model.multi_modal_projector.linear",
        "embedding": f"{_LANGUAGE}.embed_tokens",
        **{f"language.layers.{{n}}.{o}": f"{_LANGUAGE}.layers.{{n}}.{t}" for o, t in _GEMMA_LAYER.items()},
        **{f"expert.layers.{{n}}.{o}": f"{_EXPERT}.model.layers.{{n}}.{t}" for o, t in _GEMMA_LAYER.items()},
        "expert.norm": f"{_EXPERT}.model.norm",
        "state_proj": "model.state_proj",
        "action_in_proj": "model.action_in_proj",
        "action_out_proj": "model.action_out_proj",
        "action_time_mlp_in": "model.action_time_mlp_in",
        "action_time_mlp_out": "model.action_time_mlp_out",
    },
    tensors={"vision.position_embedding": f"{_TOWER}.embeddings.position_embedding.weight"},
    renamed=(
        ("paligemma.language_model.lm_head", "paligemma.lm_head"),
        ("paligemma.language_model.model.", "paligemma.model.language_model."),
        ("paligemma.vision_tower.", "paligemma.model.vision_tower."),
        ("paligemma.multi_modal_projector.", "paligemma.model.multi_modal_projector."),
    ),
    prefix="model.",
    stand_ins={f"{_LANGUAGE}.embed_tokens.weight": f"{_VLM}.lm_head.weight"},
    ignored={
        f"{_VLM}.lm_head.weight": "the policy writes no words",
        f"{_LANGUAGE}.norm.weight": "only keys and values of the language model are read, not its last output",
        f"{_EXPERT}.lm_head.weight": "the policy writes no words",
        f"{_EXPERT}.model.embed_tokens.weight": "the expert reads states and actions, no words",
    },
)
