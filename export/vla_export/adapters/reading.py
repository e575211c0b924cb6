"""From a path to an `Adapter`: which of the released forms it is, by what is in the files, never by their names."""

from __future__ import annotations

from pathlib import Path

from vla_export.adapters import lora_sp, peft_directory, vla_gse, wrapped_policy
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.pickled_tensors import PickledTensors
from vla_export.checkpoints.stored_tensors import StoredTensors, has_weights
from vla_runtime.errors import BadInput

BESIDE = "adapters.safetensors"
FORMS = (
    "LoRA-SP's adapters.safetensors, a policy's model.safetensors with its adapter in it, VLA-GSE's "
    "steps_N_pytorch_model.pt, or a directory of peft's"
)


def find_adapter(checkpoint: Path) -> Path | None:
    """What `read_adapter` reads where a checkpoint's directory holds an adapter too, else None."""
    if (checkpoint / BESIDE).is_file():
        return checkpoint / BESIDE
    if (checkpoint / peft_directory.CONFIG).is_file():
        return checkpoint
    if has_weights(checkpoint) and wrapped_policy.is_wrapped(StoredTensors.in_directory(checkpoint)):
        return checkpoint
    return None


def read_adapter(path: Path, config: Path | None = None) -> Adapter:
    """Read an adapter, a file or a directory, of any of the `FORMS`.

    config: the file with its configuration, where it is not beside it; peft's is always in its directory.

    Raises `BadInput` where there is none, for what the form's own reader refuses, and for a configuration that the form
    does not take.
    """
    if not path.exists():
        raise BadInput(f"adapter {path}: no such file; expected {FORMS}")
    if path.is_dir():
        return _in_directory(path, config)
    if _starts_as_safetensors(path):
        stored = StoredTensors.in_file(path)
        if wrapped_policy.is_wrapped(stored):
            return wrapped_policy.read_wrapped(stored, config)
        if any(".lora_A." in name for name in stored):
            return _peft(path.parent, config)
        if not stored or any(name.endswith(lora_sp.ENDINGS) for name in stored):
            return lora_sp.read_lora_sp(path, config)
        raise BadInput(f"adapter {path}: holds {min(stored)} and no adapter; expected {FORMS}")
    pickled = PickledTensors.in_pickle(path)
    if not vla_gse.is_vla_gse(pickled):
        raise BadInput(f"adapter {path}: a state dict without VLA-GSE's experts; expected {FORMS}")
    return vla_gse.read_vla_gse(pickled, config)


def _in_directory(path: Path, config: Path | None) -> Adapter:
    found = find_adapter(path)
    if found is None:
        raise BadInput(f"adapter {path}: no adapter in this directory; name the file: {FORMS}")
    if found != path:
        return read_adapter(found, config)
    if (path / peft_directory.CONFIG).is_file():
        return _peft(path, config)
    return wrapped_policy.read_wrapped(StoredTensors.in_directory(path), config)


def _peft(directory: Path, config: Path | None) -> Adapter:
    if config is not None:
        raise BadInput(f"{config}: peft's adapters bring their own {peft_directory.CONFIG}; leave this one out")
    return peft_directory.read_peft(directory)


def _starts_as_safetensors(path: Path) -> bool:
    """Eight bytes of length, then JSON: what every safetensors file begins with and no pickle or archive does."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"
