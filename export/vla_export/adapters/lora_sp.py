"""``adapters.safetensors`` as LoRA-SP's release saves it: an adapter's tensors, its configuration beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from vla_export.adapters.adapter import Adapter
from vla_export.adapters.release_config import ReleaseConfig, find_release_config, read_release_config
from vla_export.adapters.release_forms import form_of, tensor_names, update_of
from vla_export.adapters.tensor_checks import check_effect
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.errors import BadInput

ENDINGS = (".A", ".B", ".E", ".router.weight", ".router_proj")


def read_lora_sp(path: Path, config: Path | None = None) -> Adapter:
    """Read ``path``; config: its configuration, by default the file that `find_release_config` finds beside it.

    Raises `BadInput` where either is missing or malformed, where a linear has only some of its tensors, and where a
    tensor is unknown, misshapen, not finite, or the whole adapter changes nothing.
    """
    if not path.is_file():
        raise BadInput(f"adapter {path}: no such file; expected the adapters.safetensors that LoRA-SP training saves")
    stored = StoredTensors.in_file(path)
    found = read_release_config(config or find_release_config(path.parent, path.stem))
    if not stored:
        raise BadInput(f"adapter {path}: holds no tensors; expected MODULE.A, MODULE.B and MODULE.router.weight")
    modules = _by_module(path, stored, found)
    updates = {
        module: update_of(path, module, _read(stored, module, parts), found) for module, parts in modules.items()
    }
    check_effect(path, updates.values())
    settings = {name: str(value) for name, value in found.model_dump(exclude_none=True).items()}
    return Adapter(path, form_of(found), updates, settings)


def _by_module(path: Path, names: Iterable[str], config: ReleaseConfig) -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    for name in names:
        part = next((p for p in tensor_names(config) if name.endswith(f".{p}")), None)
        if part is None:
            wanted = ", ".join(f"MODULE.{p}" for p in tensor_names(config))
            raise BadInput(f"adapter {path}: unknown tensor {name}; expected {wanted} ({config.method})")
        modules.setdefault(name.removesuffix(f".{part}"), []).append(part)
    return modules


def _read(stored: StoredTensors, module: str, parts: Iterable[str]) -> dict[str, Tensor]:
    return {part: stored.read(f"{module}.{part}") for part in parts}
