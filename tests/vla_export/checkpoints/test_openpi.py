from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.vla_export.checkpoints.golden_policies import LAYOUTS, change_deployment, copy_checkpoint
from vla_export.checkpoints.contents import Contents, open_contents
from vla_export.checkpoints.layouts import read_layout
from vla_export.checkpoints.openpi_config import CAMERAS
from vla_export.checkpoints.policy_config import Widths
from vla_export.checkpoints.reading import read
from vla_runtime.errors import BadInput


@pytest.fixture(params=["pi0", "pi05"])
def openpi(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copy_checkpoint(LAYOUTS / f"openpi_{request.param}", tmp_path)


def norm_stats(checkpoint: Path) -> Path:
    return checkpoint / "assets" / "tiny" / "norm_stats.json"


def change_statistics(checkpoint: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(norm_stats(checkpoint).read_text())
    edit(content["norm_stats"])
    norm_stats(checkpoint).write_text(json.dumps(content))


def test_what_the_config_does_not_say_is_openpis_default(openpi: Path) -> None:
    config, processing = read_layout(open_contents(openpi))
    is_pi05 = config.family == "pi05"
    assert config.cameras == CAMERAS
    assert (config.horizon, config.flow_steps, config.max_tokens) == (6, 10, 200 if is_pi05 else 48)
    assert config.state == Widths(7, 7 if is_pi05 else 9)
    assert config.action == Widths(7, 9)
    assert config.relative is None
    assert processing.prompt.plain_task
    assert processing.prompt.state_bins == (256 if is_pi05 else None)


def test_the_epsilon_is_in_both_directions(openpi: Path) -> None:
    config, found = read_layout(open_contents(openpi))
    stored = json.loads(norm_stats(openpi).read_text())["norm_stats"]
    for space, name in ((found.state, "state"), (found.action, "actions")):
        low, high = ("q01", "q99") if config.family == "pi05" else ("mean", "std")
        width = np.array(stored[name][high]) + 1e-6
        if config.family == "pi05":
            width = (width - stored[name][low]) / 2
        np.testing.assert_allclose(space.scale, width, rtol=1e-12)


def test_the_family_is_told_by_its_tensors(openpi: Path) -> None:
    contents = open_contents(openpi)
    tensors = {name: tensor for name, tensor in contents.tensors.items() if "time_mlp_in" not in name}
    stored = type(contents.tensors)(contents.tensors.path, tensors)
    with pytest.raises(BadInput, match=r"neither π0 nor π0\.5.*action_time_mlp_in"):
        read_layout(Contents(contents.directory, contents.config, stored))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1),
        ("max_token_len", 180),
        ("action_dim", 6),
        ("action_horizon", 0),
        ("paligemma_variant", "gemma_2b_lora"),
        ("image_size", 43),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    openpi: Path, contents_with: Callable[..., Contents], field: str, value: object
) -> None:
    contents = contents_with(openpi, lambda content: content.update({field: value}))
    with pytest.raises(BadInput, match="state has 7 numbers" if field == "action_dim" else field):
        read_layout(contents)


def test_missing_statistics(openpi: Path) -> None:
    norm_stats(openpi).unlink()
    with pytest.raises(BadInput, match=r"no assets/\*/norm_stats\.json"):
        read(openpi)


def test_statistics_of_several_robots(openpi: Path) -> None:
    shutil.copytree(norm_stats(openpi).parent, openpi / "assets" / "other")
    with pytest.raises(BadInput, match=r"several robots \(assets/other, assets/tiny\)"):
        read(openpi)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("actions"), "norm_stats.actions"),
        (lambda s: s.update(images=s["state"]), "norm_stats.images"),
        (lambda s: s["state"].update(mean=[0.0] * 7, std=[1.0] * 6, q99=[1.0] * 6), "must be 7 finite numbers"),
    ],
)
def test_bad_statistics_are_named(openpi: Path, edit: Callable[[dict[str, Any]], object], message: str) -> None:
    change_statistics(openpi, edit)
    with pytest.raises(BadInput, match=message):
        read(openpi)


def test_pi05_needs_quantiles(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(LAYOUTS / "openpi_pi05", tmp_path)
    change_statistics(checkpoint, lambda s: s["state"].update(q01=None))
    with pytest.raises(BadInput, match=r"no statistics state\.q01"):
        read(checkpoint)


def test_relative_actions_must_be_said(openpi: Path) -> None:
    change_deployment(openpi, relative_actions=None)
    with pytest.raises(BadInput, match="relative_actions is missing"):
        read(openpi)
    change_deployment(openpi, relative_actions=["joint2"])
    assert read(openpi).interface.action.relative == (False, True, False, False, False, False, False)


def test_cameras_by_the_robots_names(openpi: Path) -> None:
    change_deployment(openpi, cameras={"base_0_rgb": "table"})
    assert [camera.name for camera in read(openpi).interface.cameras] == ["table", "left_wrist_0_rgb"]
