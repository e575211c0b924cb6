from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.models.pi05 import Pi05, Pi05Config

FULL_SIZE = Path(__file__).parents[2] / "oracles" / "goldens" / "pi05_full_size.json.gz"


def test_the_full_size_policy_is_lerobots_tensor_by_tensor() -> None:
    theirs = {name: tuple(shape) for name, shape in json.loads(gzip.decompress(FULL_SIZE.read_bytes())).items()}
    with torch.device("meta"):
        model = Pi05(Pi05Config()).state_dict()
    ours = {PI05_KEYS.theirs(name): tuple(tensor.shape) for name, tensor in model.items()}
    assert ours == {name: shape for name, shape in theirs.items() if name not in PI05_KEYS.ignored}
    assert len(ours) == len(model)


def test_names_without_lerobots_prefix_are_the_same_tensors() -> None:
    """openpi's conversion leaves it out."""
    with torch.device("meta"):
        names = [PI05_KEYS.theirs(name) for name in Pi05(Pi05Config()).state_dict()]
    assert all(PI05_KEYS.newest(name.removeprefix("model.")) == name for name in names)
