from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch

from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0, Pi0Config

FULL_SIZE = Path(__file__).parents[2] / "oracles" / "goldens" / "pi0_full_size.json.gz"


def test_the_full_size_policy_is_lerobots_tensor_by_tensor() -> None:
    theirs = {name: tuple(shape) for name, shape in json.loads(gzip.decompress(FULL_SIZE.read_bytes())).items()}
    with torch.device("meta"):
        model = Pi0(Pi0Config())
    ours = {PI0_KEYS.theirs(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == {name: shape for name, shape in theirs.items() if name not in PI0_KEYS.ignored}
    assert len(ours) == len(model.state_dict())


def test_every_older_name_leads_back_to_the_newest() -> None:
    with torch.device("meta"):
        model = Pi0(Pi0Config())
    older = 0
    for ours in model.state_dict():
        newest, *rest = PI0_KEYS.every_name(PI0_KEYS.theirs(ours))
        older += len(rest)
        assert all(PI0_KEYS.newest(name) == newest for name in (newest, *rest, newest.removeprefix("model.")))
    # What the VLM holds was renamed; the expert and the five projections never were.
    assert older == sum(n.split(".")[0] in ("vision", "projector", "embedding", "language") for n in model.state_dict())
