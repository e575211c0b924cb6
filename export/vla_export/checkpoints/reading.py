"""From a directory to a `Checkpoint`: the small files first, the weights last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.contents import Contents, open_contents
from vla_export.checkpoints.interface import read_interface
from vla_export.checkpoints.layouts import read_layout
from vla_export.checkpoints.lerobot_buffers import is_buffer
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.checkpoints.weights import load_weights
from vla_export.prune.pruned_checkpoint import cut_to_structure
from vla_runtime.errors import BadInput


def read(path: Path, half: bool | None = False, tensors: StoredTensors | None = None) -> Checkpoint:
    """Read the checkpoint in a directory; raises `BadInput` where there is none, or none that can be exported.

    half: of `vla_export.checkpoints.weights.load_weights`. tensors: the policy's weights, where an adapter's file
    brings them; those in the directory are then not read.
    """
    contents = open_contents(path, tensors)
    config, processing = read_layout(contents)
    interface = read_interface(path, config, processing)
    with torch.device("meta"):
        model = config.build(_special_tokens(path, interface.tokenizer_definition))
    cut_to_structure(model, config.family, path)
    weights = load_weights(model, _without_statistics(contents), config.keys, half)
    model.eval().requires_grad_(False)
    return Checkpoint(
        root=path,
        family=config.family,
        sha256=contents.tensors.sha256(),
        model=model,
        interface=interface,
        modules=config.keys.linears(model),
        weights=weights,
    )


def _special_tokens(directory: Path, definition: str) -> Callable[[str], int]:
    def find(token: str) -> int:
        found = Tokenizer.from_str(definition).token_to_id(token)  # few policies ask, and a large one takes seconds
        if found is None:
            raise BadInput(f"the tokenizer in {directory} has no {token}, which the policy sees around every image")
        return found

    return find


def _without_statistics(contents: Contents) -> StoredTensors:
    """The weights alone, where older releases keep statistics among them, which have been read by now."""
    tensors = {name: tensor for name, tensor in contents.tensors.items() if not is_buffer(name)}
    return replace(contents.tensors, tensors=tensors)
