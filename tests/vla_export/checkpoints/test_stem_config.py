"""A config.json with a convolutional stem in place of SigLIP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.vla_export.checkpoints.golden_policies import GOLDENS
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_paligemma_config import read_pi0
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0
from vla_export.models.stem import StemSize
from vla_runtime.errors import BadInput


@pytest.fixture
def build(contents_with: Callable[..., Contents]) -> Callable[..., Pi0]:
    def make(**changed: Any) -> Pi0:
        def edit(content: dict[str, Any]) -> None:
            del content["vision_config"], content["patch_size"]
            content["image_resolution"] = [32, 32]
            content |= {"stem_config": {"channels": [8, 16], "width": 24}} | changed

        with torch.device("meta"):
            model = read_pi0(contents_with(GOLDENS / "pi0", edit)).build(lambda _: 0)
        assert isinstance(model, Pi0)
        return model

    return make


def test_the_stem_sees(build: Callable[..., Pi0]) -> None:
    vision = build().config.vision
    assert vision == StemSize(channels=(8, 16), width=24)
    assert vision.stride == 8


def test_every_tensor_of_a_stem_has_a_name_of_its_own(build: Callable[..., Pi0]) -> None:
    names = [PI0_KEYS.theirs(ours) for ours in build().state_dict()]
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
def test_what_does_not_fit_a_stem_is_refused(build: Callable[..., Pi0], changed: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        build(**changed)
