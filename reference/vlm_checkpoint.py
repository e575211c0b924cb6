"""The base VLM on its own: a π0's vision and language model under PaliGemma's names, and the head it was trained with.

config.json, model.safetensors and tokenizer.json. ``model.…`` are PaliGemma's tensors; ``grounding_head.…`` is the
`PositionHead`, which PaliGemma has not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference.checkpoint import CAMERAS, Words, replacing, sizes_of, write_json
from reference.learner import Learner
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0Config
from vla_runtime.errors import BadInput

_INSIDE_POLICY = "model.paligemma_with_expert.paligemma."
_HEAD = "grounding_head."


def write_vlm(directory: Path, learner: Learner, words: Words) -> None:
    """Write the checkpoint; one that is there is replaced. Raises `BadInput` where something else is in the way."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _tensors(learner).items()}
    with replacing(directory) as partial:
        write_json(partial / "config.json", _config(learner.model.config))
        save_file(tensors, partial / "model.safetensors", metadata={"format": "pt"})
        words.tokenizer.save(str(partial / "tokenizer.json"))


def load_vlm(directory: Path, learner: Learner) -> None:
    """Fill vision, language model and head of ``learner``, strictly; raises `BadInput` naming what does not fit."""
    config, weights = directory / "config.json", directory / "model.safetensors"
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
        stored = load_file(weights)
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise BadInput(f"no base VLM in {directory}: {error}; write one with python -m reference.train_vlm") from error
    expected = json.loads(json.dumps(_config(learner.model.config)))
    if stated != expected:
        differing = sorted(k for k in stated.keys() | expected.keys() if stated.get(k) != expected.get(k))
        raise BadInput(f"{config} is of another model than this training's: {', '.join(differing)} differ")
    wanted = _tensors(learner)
    if stored.keys() != wanted.keys():
        odd = sorted(stored.keys() ^ wanted.keys())
        raise BadInput(f"{weights} does not fit its config.json: {', '.join(odd[:5])} missing or unexpected")
    for name, tensor in wanted.items():
        if stored[name].shape != tensor.shape:
            raise BadInput(f"{weights}: {name} is {list(stored[name].shape)}, expected {list(tensor.shape)}")
        tensor.data.copy_(stored[name])


def _tensors(learner: Learner) -> dict[str, Tensor]:
    """The learner's own tensors by their names in the checkpoint."""
    named = {PI0_KEYS.theirs(ours): tensor for ours, tensor in learner.model.state_dict().items()}
    vlm = {n.removeprefix(_INSIDE_POLICY): t for n, t in named.items() if n.startswith(_INSIDE_POLICY)}
    return vlm | {_HEAD + name: tensor for name, tensor in learner.head.state_dict().items()}


def _config(sizes: Pi0Config) -> dict[str, Any]:
    side = sizes.image_size
    return {
        "model_type": "paligemma",
        "image_resolution": [side, side],
        "cameras": list(CAMERAS),
        **sizes_of(sizes),
    }
