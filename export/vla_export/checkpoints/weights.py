"""Loading weights strictly: every tensor is used, knowingly ignored, or an error that names it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.graph.precision import half_parameters, is_large, to_half
from vla_runtime.errors import BadInput

FLOATS = ("F64", "F32", "F16", "BF16")
NAMED = 5  # how many tensors of each fault a message names


@dataclass(frozen=True)
class LoadedWeights:
    """Where a model's weights came from.

    names: our name of each tensor → the name it is stored under. ignored: stored tensors that were knowingly left out,
    each with the reason.
    """

    stored: StoredTensors
    names: Mapping[str, str]
    ignored: Mapping[str, str]

    def original(self, ours: str) -> Tensor:
        """What the checkpoint holds for one of the model's tensors, in its stored type, mapped from its file."""
        return self.stored.read(self.names[ours])


def load_weights(model: nn.Module, stored: StoredTensors, keys: KeyMap, half: bool | None = False) -> LoadedWeights:
    """Fill a model that was built on the meta device, tensor by tensor, so that no second copy ever exists.

    half: False loads float32; True loads what `vla_export.graph.precision.half_parameters` names as float16 and the
    rest as float32; None is True for large models alone.

    Raises `BadInput` that names the tensors that are missing, unexpected, of another shape, not floating point or not
    finite, and `WorkFailed` for one that float16 cannot hold; the model is then unchanged.
    """
    names = _newest_names(stored, keys)
    wanted = {ours: _where(keys.theirs(ours), names, keys) for ours in model.state_dict()}
    _check(model, stored, names, wanted, keys)
    found = {ours: names[theirs] for ours, theirs in wanted.items()}
    halved = half_parameters(model) if half or (half is None and is_large(model)) else set()
    # A dictionary of the model's own future tensors: each is stored nowhere else.
    model.load_state_dict(dict(_converted(stored, found, halved)), assign=True)
    left_out = {key: reason for key, reason in keys.ignored.items() if key in names and key not in wanted.values()}
    return LoadedWeights(stored, found, {names[key]: reason for key, reason in left_out.items()})


def _converted(stored: StoredTensors, found: Mapping[str, str], halved: set[str]) -> Iterator[tuple[str, Tensor]]:
    for ours, theirs in found.items():
        tensor = stored.read(theirs)
        if not torch.stack(tensor.aminmax()).isfinite().all():
            raise BadInput(f"{stored.path}: {theirs} holds values that are infinite or no number: training diverged")
        # Never the mapped tensor itself: that would keep the file open, and change when it does.
        yield ours, to_half(theirs, tensor) if ours in halved else tensor.to(torch.float32, copy=True)


def _newest_names(stored: StoredTensors, keys: KeyMap) -> dict[str, str]:
    """The newest release's name of every stored tensor → the name it is stored under."""
    names: dict[str, str] = {}
    for key in stored:
        newest = keys.newest(key)
        if newest in names:
            raise BadInput(f"{stored.path}: {names[newest]} and {key} are the same tensor in two releases' names")
        names[newest] = key
    return names


def _where(theirs: str, names: dict[str, str], keys: KeyMap) -> str:
    stand_in = keys.stand_ins.get(theirs)
    return stand_in if theirs not in names and stand_in in names else theirs


def _check(
    model: nn.Module, stored: StoredTensors, names: dict[str, str], wanted: dict[str, str], keys: KeyMap
) -> None:
    missing = [theirs for theirs in wanted.values() if theirs not in names]
    unexpected = [names[key] for key in names.keys() - set(wanted.values()) - keys.ignored.keys()]
    misshapen, wrong_type = [], []
    for ours, tensor in model.state_dict().items():
        theirs = wanted[ours]
        if theirs in names:
            entry = stored[names[theirs]]
            if entry.shape != tuple(tensor.shape):
                misshapen.append(f"{names[theirs]} is {list(entry.shape)}, expected {list(tensor.shape)}")
            if entry.dtype not in FLOATS:
                wrong_type.append(f"{names[theirs]} is {entry.dtype}")
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
        raise BadInput(f"{stored.path} does not fit the policy that config.json describes: {'; '.join(faults)}")


def _summary(tensors: list[str], what: str) -> str:
    more = f", and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return f"{len(tensors)} {what}: {', '.join(sorted(tensors)[:NAMED])}{more}"
