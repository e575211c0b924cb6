from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig

FULL_SIZE = Path(__file__).parents[2] / "oracles" / "goldens" / "smolvla_full_size.json.gz"


def full_size() -> SmolVLA:
    with torch.device("meta"):
        return SmolVLA(SmolVLAConfig())


def test_the_full_size_policy_is_lerobots_tensor_by_tensor() -> None:
    theirs = {name: tuple(shape) for name, shape in json.loads(gzip.decompress(FULL_SIZE.read_bytes())).items()}
    model = full_size().state_dict()
    ours = {SMOLVLA_KEYS.theirs(name): tuple(tensor.shape) for name, tensor in model.items()}
    assert ours == {name: shape for name, shape in theirs.items() if name not in SMOLVLA_KEYS.ignored}
    assert len(ours) == len(model)


def test_names_of_a_compiled_policy_lead_back_to_the_plain_ones() -> None:
    for ours in full_size().state_dict():
        plain, compiled = SMOLVLA_KEYS.every_name(SMOLVLA_KEYS.theirs(ours))
        assert compiled == plain.replace("model.", "model._orig_mod.", 1)
        assert SMOLVLA_KEYS.newest(compiled) == SMOLVLA_KEYS.newest(plain) == plain
