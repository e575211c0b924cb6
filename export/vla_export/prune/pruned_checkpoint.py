"""A pruned policy as a checkpoint of the project that trained it, and the file that says what was taken out."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.stored_tensors import FILE as WEIGHTS
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.graph.precision import to_half
from vla_export.models.flow_model import FlowModel
from vla_export.prune.cut_tensors import names_before, stored_before
from vla_export.prune.structure import Structure, apply_structure
from vla_export.prune.tensor_file import TensorEntry, write_tensors
from vla_runtime.bundle.manifest import Sha256
from vla_runtime.errors import BadInput, WorkFailed

STRUCTURE = "structure.json"
ASSETS = "assets"  # openpi's statistics
# Weights are written anew, an adapter's are in the policy's by now, and pickles (an optimiser's) may run code.
_LEFT_OUT = ("model.", "model-", "adapters.", "adapter_", STRUCTURE)
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")


class StructureFile(BaseModel):
    """The whole of ``structure.json``.

    checkpoint, checkpoint_sha256: the whole policy's directory by name, and its weights' digest. layer_lists: by stack,
    what the training project calls its list of layers. structure: what the pruned lists hold, in order, in indices of
    the whole ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    family: str
    checkpoint: str
    checkpoint_sha256: Sha256
    layer_lists: dict[str, str]
    structure: Structure


def read_structure(directory: Path) -> StructureFile | None:
    """The structure beside a checkpoint's weights, None where the policy is whole; `BadInput` for a broken file."""
    path = directory / STRUCTURE
    return validate(StructureFile, read_json(path), path) if path.exists() else None


def cut_to_structure(model: FlowModel, family: str, directory: Path) -> None:
    """Cut a model that was built for a checkpoint's config.json to what its weights are of, where a structure says so.

    For a model on the meta device, before its weights are loaded. Raises `BadInput` where the structure is broken or
    another policy's.
    """
    file = read_structure(directory)
    if file is None:
        return
    path = directory / STRUCTURE
    if file.family != family:
        raise BadInput(f"{path} is of a {file.family} policy, config.json describes a {family}")
    apply_structure(model, file.structure, str(path))


def write_pruned_checkpoint(checkpoint: Checkpoint, model: FlowModel, structure: Structure, out: Path) -> None:
    """Write what is left of a policy so that its training project can go on with it, and an export begin with it.

    checkpoint: the policy as it was read. model: what is left of it, with the values it is to have. structure: what is
    left, in indices of ``checkpoint.model`` as it was read; the file counts in those of the whole policy, where the
    checkpoint was a pruned one itself.

    ``model.safetensors`` has the project's names and the layers renumbered without holes, and also the tensors that
    inference never reads. A tensor that was only moved or cut has the checkpoint's own values and type, even where
    ``model`` holds them in half precision; one that was changed has the model's. The small files are copied as they
    are. One tensor is in memory at a time beside the model, and the directory is renamed into its place when complete.

    Raises `BadInput` as `check_place` does, and `WorkFailed` where it cannot be written.
    """
    check_place(checkpoint, model, out)
    outer = read_structure(checkpoint.root)
    file = StructureFile(
        family=checkpoint.family,
        checkpoint=checkpoint.root.resolve().name if outer is None else outer.checkpoint,
        checkpoint_sha256=checkpoint.sha256 if outer is None else outer.checkpoint_sha256,
        layer_lists=_layer_lists(checkpoint, model, structure),
        structure=structure if outer is None else structure.within(outer.structure),
    )
    partial_directory = out.with_name(f".{out.name}.partial-{secrets.token_hex(4)}")
    try:
        partial_directory.mkdir(parents=True)
        _copy_small_files(checkpoint.root, partial_directory)
        (partial_directory / STRUCTURE).write_text(file.model_dump_json(indent=2) + "\n", encoding="utf-8")
        write_tensors(partial_directory / WEIGHTS, list(_entries(checkpoint, model, structure)))
        if out.exists():
            out.rmdir()
        partial_directory.rename(out)
    except OSError as error:
        raise WorkFailed(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial_directory, ignore_errors=True)


def check_place(checkpoint: Checkpoint, model: FlowModel, out: Path) -> None:
    """Raise `BadInput` where ``out`` is in the way, or the policy has what its project's layout has no place for."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out} is in the way: a pruned checkpoint needs a directory of its own")
    names = checkpoint.weights.names
    homeless = [name for name in model.state_dict() if name not in names]
    if homeless:
        raise BadInput(
            f"the policy's adapter has left tensors ({homeless[0]}, {len(homeless)} in all) that its project's layout "
            "has no place for: one that depends on its inputs leaves a branch where it is exact and a bias where it is "
            "merged; write the pruned checkpoint without --merge, and finetune that"
        )


def _layer_lists(checkpoint: Checkpoint, model: FlowModel, structure: Structure) -> dict[str, str]:
    names, before = checkpoint.weights.names, names_before(model, structure)
    paths = {id(module): path for path, module in model.named_modules()}
    first = {name: next(iter(stack)).attention.k_proj for name, stack in model.stacks().items()}
    theirs = {name: names[f"{before(paths[id(linear)])}.weight"] for name, linear in first.items()}
    return {name: stored.rpartition(".layers.")[0] + ".layers" for name, stored in theirs.items()}


def _copy_small_files(source: Path, target: Path) -> None:
    for path in sorted(source.iterdir()):
        if path.is_dir():
            if path.name == ASSETS:
                shutil.copytree(path, target / ASSETS)
        elif not path.name.startswith(_LEFT_OUT) and path.suffix not in _PICKLES:
            shutil.copyfile(path, target / path.name)


def _entries(checkpoint: Checkpoint, model: FlowModel, structure: Structure) -> Iterator[TensorEntry]:
    names = checkpoint.weights.names
    stored = stored_before(checkpoint.weights, model, structure)
    for name, value in model.state_dict().items():
        original = stored(name)
        unchanged = torch.equal(_converted(name, original, value.dtype), value)
        # A layer's place in the pruned list is one that the whole list had too, and so is its name.
        kept, read = (original, partial(stored, name)) if unchanged else (value, partial(_itself, value))
        yield TensorEntry(names[name], kept.dtype, tuple(kept.shape), read)
    read_in_training = StoredTensors.in_directory(checkpoint.root)
    for name in set(read_in_training) - set(names.values()):
        unread = read_in_training.read(name)
        yield TensorEntry(name, unread.dtype, tuple(unread.shape), partial(read_in_training.read, name))


def _converted(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return to_half(name, tensor) if dtype is torch.float16 else tensor.to(dtype)


def _itself(tensor: Tensor) -> Tensor:
    return tensor
