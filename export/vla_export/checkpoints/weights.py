"""Loading weights strictly: every tensor is used, knowingly ignored, or an error that names it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import nn

from vla_export.checkpoints.key_map import KeyMap
from vla_runtime.errors import BadInput

FLOATS = ("F64", "F32", "F16", "BF16")
NAMED = 5  # how many tensors of each fault a message names


def load_weights(model: nn.Module, file: Path, keys: KeyMap) -> dict[str, str]:
    """Fill a model built on the meta device from a safetensors file, as float32, tensor by tensor.

    Returns the tensors that were knowingly left out, each with the reason. Raises `BadInput` that names the tensors
    that are missing, unexpected, of another shape or not floating point; the model is then unchanged.
    """
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            names = _newest_names(stored.keys(), keys, file)
            wanted = {ours: _where(keys.theirs(ours), names, keys) for ours in model.state_dict()}
            _check(model, stored, names, wanted, keys, file)
            # One tensor at a time is converted: the stored type never exists as a second whole copy.
            weights = {ours: stored.get_tensor(names[theirs]).float() for ours, theirs in wanted.items()}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} cannot be read as safetensors: {error}") from error
    model.load_state_dict(weights, assign=True)
    return {names[key]: reason for key, reason in keys.ignored.items() if key in names and key not in wanted.values()}


def _newest_names(stored: Iterable[str], keys: KeyMap, file: Path) -> dict[str, str]:
    """The newest release's name of every stored tensor → the name it is stored under."""
    names: dict[str, str] = {}
    for key in stored:
        newest = keys.newest(key)
        if newest in names:
            raise BadInput(f"{file}: {names[newest]} and {key} are the same tensor in two releases' names")
        names[newest] = key
    return names


def _where(theirs: str, names: dict[str, str], keys: KeyMap) -> str:
    stand_in = keys.stand_ins.get(theirs)
    return stand_in if theirs not in names and stand_in in names else theirs


def _check(
    model: nn.Module, stored: safe_open, names: dict[str, str], wanted: dict[str, str], keys: KeyMap, file: Path
) -> None:
    missing = [theirs for theirs in wanted.values() if theirs not in names]
    unexpected = [names[key] for key in names.keys() - set(wanted.values()) - keys.ignored.keys()]
    misshapen, wrong_type = [], []
    for ours, tensor in model.state_dict().items():
        theirs = wanted[ours]
        if theirs in names:
            entry = stored.get_slice(names[theirs])
            shape, dtype = list(entry.get_shape()), entry.get_dtype()
            if shape != list(tensor.shape):
                misshapen.append(f"{names[theirs]} is {shape}, expected {list(tensor.shape)}")
            if dtype not in FLOATS:
                wrong_type.append(f"{names[theirs]} is {dtype}")
    faults = [
        _summary(faulty, what)
        for faulty, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (misshapen, "of another shape"),
            (wrong_type, "not floating point"),
        )
        if faulty
    ]
    if faults:
        raise BadInput(f"{file} does not fit the policy that config.json describes: {'; '.join(faults)}")


def _summary(tensors: list[str], what: str) -> str:
    more = f", and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return f"{len(tensors)} {what}: {', '.join(sorted(tensors)[:NAMED])}{more}"
