from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.vla_export.checkpoints.golden_policies import LAYOUTS
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_0_3_pi0_config import read_pi0
from vla_runtime.errors import BadInput

ContentsWith = Callable[..., Contents]


@pytest.fixture(params=["lerobot_0_3_pi0", "lora_sp_pi0"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_fields_of_both_projects_are_understood(contents_with: ContentsWith, layout: str) -> None:
    config = read_pi0(contents_with(LAYOUTS / layout))
    assert config.cameras == ("observation.images.side", "observation.images.wrist")
    assert (config.images.side, config.images.padding, config.images.bars) == (42, "left_top", -1.0)
    assert (config.horizon, config.flow_steps, config.max_tokens) == (6, 10, 48)
    assert config.relative == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_obs_steps", 2),
        ("n_action_steps", 3),
        ("proj_width", 1024),
        ("resize_imgs_with_padding", None),
        ("resize_imgs_with_padding", [42, 56]),
        ("adapt_to_pi_aloha", True),
        ("use_delta_joint_actions_aloha", True),
        ("num_steps", 0),
        ("surprise", 1),
        ("image_resolution", [42, 42]),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    contents_with: ContentsWith, layout: str, field: str, value: object
) -> None:
    with pytest.raises(BadInput, match=field):
        read_pi0(contents_with(LAYOUTS / layout, lambda content: content.update({field: value})))
