"""Names in LeRobot of what π0 and π0.5 share: PaliGemma, and the linears of a Gemma expert.

Newest is LeRobot 0.6. Releases of spring 2025 and projects that grew from them, LoRA-SP among them, nest the language
model the other way round and lack the inner ``model``.
"""

from __future__ import annotations

from collections.abc import Mapping

VLM = "model.paligemma_with_expert.paligemma"
TOWER = f"{VLM}.model.vision_tower.vision_model"
LANGUAGE = f"{VLM}.model.language_model"
EXPERT = "model.paligemma_with_expert.gemma_expert"

SIGLIP_LAYER = {
    "input_norm": "layer_norm1",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.out_proj",
    "post_norm": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
LINEARS = {
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.o_proj": "self_attn.o_proj",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
}
NORMS = {"input_norm": "input_layernorm", "post_norm": "post_attention_layernorm"}
_STEM_LAYER = {"convolution": "convolution", "norm": "norm"}  # no model of LeRobot has one: the names are ours


def layers(ours: str, theirs: str, inside: Mapping[str, str]) -> dict[str, str]:
    """A stack's modules: those inside one layer, ours → theirs, under ``layers.{n}`` of both."""
    return {f"{ours}.layers.{{n}}.{o}": f"{theirs}.layers.{{n}}.{t}" for o, t in inside.items()}


PALIGEMMA_MODULES = {
    "vision.patch_embedding": f"{TOWER}.embeddings.patch_embedding",
    **layers("vision.stack", f"{TOWER}.encoder", SIGLIP_LAYER),
    "vision.stack.norm": f"{TOWER}.post_layernorm",
    **layers("vision", f"{TOWER}.stem", _STEM_LAYER),
    "projector": f"{VLM}.model.multi_modal_projector.linear",
    "embedding": f"{LANGUAGE}.embed_tokens",
    **layers("language", LANGUAGE, LINEARS | NORMS),
    **layers("expert", f"{EXPERT}.model", LINEARS),
}
PALIGEMMA_TENSORS = {"vision.position_embedding": f"{TOWER}.embeddings.position_embedding.weight"}
OLDER_PALIGEMMA = (
    ("paligemma.language_model.lm_head", "paligemma.lm_head"),
    ("paligemma.language_model.model.", "paligemma.model.language_model."),
    ("paligemma.vision_tower.", "paligemma.model.vision_tower."),
    ("paligemma.multi_modal_projector.", "paligemma.model.multi_modal_projector."),
)
PALIGEMMA_STAND_INS = {f"{LANGUAGE}.embed_tokens.weight": f"{VLM}.lm_head.weight"}
PALIGEMMA_IGNORED = {
    f"{VLM}.lm_head.weight": "the policy writes no words",
    f"{LANGUAGE}.norm.weight": "only keys and values of the language model are read, not its last output",
    f"{EXPERT}.lm_head.weight": "the policy writes no words",
    f"{EXPERT}.model.embed_tokens.weight": "the expert reads states and actions, no words",
}
