from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.vla_export.checkpoints.golden_policies import GOLDENS, change_deployment, copy_checkpoint
from vla_export.checkpoints.checkpoint import Interface
from vla_export.checkpoints.lerobot_processors import PREPROCESSOR
from vla_export.checkpoints.reading import read
from vla_runtime.errors import BadInput


def interface(checkpoint: Path) -> Interface:
    return read(checkpoint).interface


def relative_checkpoint(tmp_path: Path) -> Path:
    checkpoint = copy_checkpoint(GOLDENS / "pi0", tmp_path)
    for file in (GOLDENS / "relative").iterdir():
        (checkpoint / file.name).write_bytes(file.read_bytes())
    return checkpoint


def test_the_state_in_pi05s_text(tmp_path: Path) -> None:
    found = interface(copy_checkpoint(GOLDENS / "pi05", tmp_path))
    assert found.tokenizer.template == "Task: {task}, State: {state};\nAction: "
    assert (found.tokenizer.state_bins, found.tokenizer.plain_task, found.tokenizer.max_length) == (256, True, 72)
    assert (len(found.state.dimensions), found.state.padded_to) == (7, 7)


def test_cameras_that_the_robot_lacks_or_calls_otherwise(checkpoint: Path) -> None:
    change_deployment(checkpoint, missing_cameras=["wrist"], cameras={"side": "table"})
    assert [camera.name for camera in interface(checkpoint).cameras] == ["table"]


def test_a_renamed_camera_is_renamed_again(checkpoint: Path) -> None:
    path = checkpoint / PREPROCESSOR
    path.write_text(path.read_text().replace('"rename_map": {}', f'"rename_map": {RENAMING}'))
    assert [camera.name for camera in interface(checkpoint).cameras] == ["table", "wrist"]
    change_deployment(checkpoint, cameras={"table": "overhead"})
    assert [camera.name for camera in interface(checkpoint).cameras] == ["overhead", "wrist"]
    change_deployment(checkpoint, cameras={"side": "overhead"})
    with pytest.raises(BadInput, match="the policy's cameras are table, wrist"):
        interface(checkpoint)


RENAMING = '{"observation.images.table": "observation.images.side"}'


def test_the_quantity_of_a_space(checkpoint: Path) -> None:
    change_deployment(checkpoint, quantity={"action": "end_pose"})
    found = interface(checkpoint)
    assert (found.state.quantity, found.action.quantity) == ("joints", "end_pose")


def test_a_deployment_may_repeat_what_the_checkpoint_says_of_relative_actions(tmp_path: Path) -> None:
    checkpoint = relative_checkpoint(tmp_path)
    change_deployment(checkpoint, relative_actions=[f"joint{n}" for n in range(1, 7)])
    assert interface(checkpoint).action.relative == (True,) * 6 + (False,)
    change_deployment(checkpoint, relative_actions=["joint1"])
    with pytest.raises(BadInput, match="other actions than the checkpoint says"):
        interface(checkpoint)


@pytest.mark.parametrize("field", ["name", "unit"])
def test_a_relative_action_counts_from_the_same_number_of_the_state(tmp_path: Path, field: str) -> None:
    checkpoint = relative_checkpoint(tmp_path)
    space = yaml.safe_load((checkpoint / "deployment.yaml").read_text())["state"]
    space[1] = {"name": "joint2", "unit": "rad"} | {field: {"name": "other", "unit": "deg"}[field]}
    change_deployment(checkpoint, state=space)
    with pytest.raises(BadInput, match="action joint2 is relative to number 1"):
        interface(checkpoint)
