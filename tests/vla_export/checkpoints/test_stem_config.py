"""A config.json with a convolutional stem in place of SigLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.lerobot_config import parse_config
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0
from vla_export.models.stem import StemSize
from vla_runtime.errors import BadInput

PATH = Path("config.json")


@pytest.fixture
def content(checkpoint: Path) -> dict[str, Any]:
    content = read_json(checkpoint / "config.json")
    del content["vision_config"], content["patch_size"]
    content["image_resolution"] = [32, 32]
    return content | {"stem_config": {"channels": [8, 16], "width": 24}}


def test_the_stem_sees(content: dict[str, Any]) -> None:
    sizes = parse_config(content, PATH).sizes()
    assert sizes.vision == StemSize(channels=(8, 16), width=24)
    assert sizes.vision.stride == 8


def test_every_tensor_of_a_stem_has_a_name_of_its_own(content: dict[str, Any]) -> None:
    names = [PI0_KEYS.theirs(ours) for ours in Pi0(parse_config(content, PATH).sizes()).state_dict()]
    assert len(names) == len(set(names))
    tower = "model.paligemma_with_expert.paligemma.model.vision_tower.vision_model"
    assert f"{tower}.stem.layers.1.convolution.weight" in names
    assert f"{tower}.embeddings.patch_embedding.weight" in names


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"stem_config": {"channels": [8, 12], "width": 24}}, "multiple of 8"),
        ({"stem_config": {"channels": [], "width": 24}}, "stem_config.channels"),
        ({"stem_config": {"channels": [8]}}, "stem_config.width"),
        ({"image_resolution": [36, 36]}, "in patches of 8"),
        ({"patch_size": 8}, "excludes"),
        ({"vision_config": dict.fromkeys(("depth", "width", "mlp", "heads", "kv_heads", "head_dim"), 8)}, "excludes"),
    ],
)
def test_what_does_not_fit_a_stem_is_refused(content: dict[str, Any], changed: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        parse_config(content | changed, PATH)
