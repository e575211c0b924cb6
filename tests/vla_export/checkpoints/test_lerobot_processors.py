from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.vla_export.checkpoints.golden_policies import GOLDENS, copy_checkpoint
from vla_export.checkpoints.contents import open_contents
from vla_export.checkpoints.layouts import read_layout
from vla_export.checkpoints.lerobot_processors import POSTPROCESSOR, PREPROCESSOR
from vla_export.checkpoints.normalisation import identity
from vla_export.checkpoints.processing import NEW_LINE, STATE_IN_WORDS, Processing
from vla_runtime.errors import BadInput

STATISTICS = "policy_preprocessor_step_6_normalizer_processor.safetensors"
IDENTITY = {"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "MEAN_STD"}

Change = Callable[..., None]


def read(directory: Path) -> Processing:
    return read_layout(open_contents(directory))[1]


def rewrite(checkpoint: Path, file: str, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    path = checkpoint / file
    content = json.loads(path.read_text())
    edit(content["steps"])
    path.write_text(json.dumps(content))


def named(steps: list[dict[str, Any]], name: str) -> int:
    return [step["registry_name"] for step in steps].index(name)


@pytest.mark.parametrize(
    ("family", "prompt", "mode"),
    [("pi0", NEW_LINE, "mean_std"), ("pi05", STATE_IN_WORDS, "quantiles"), ("smolvla", NEW_LINE, "mean_std")],
)
def test_lerobots_own_files_are_understood(family: str, prompt: object, mode: str) -> None:
    found = read(GOLDENS / family)
    assert found.prompt == prompt
    assert found.tokenizer == ("tiny/smolvlm" if family == "smolvla" else "google/paligemma-3b-pt-224")
    assert found.state.mode == found.action.mode == mode


def test_without_the_newline_step_there_is_no_newline(checkpoint: Path) -> None:
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.pop(named(steps, "pi0_new_line_processor")))
    assert read(checkpoint).prompt.template == "{task}"


def test_pi05_without_its_prompt_would_not_know_the_state(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "pi05", tmp_path)
    step = "pi05_prepare_state_tokenizer_processor_step"
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.pop(named(steps, step)))
    with pytest.raises(BadInput, match=f"no {step}"):
        read(checkpoint)


@pytest.mark.parametrize("file", [PREPROCESSOR, POSTPROCESSOR])
def test_half_of_the_processor_files(checkpoint: Path, file: str) -> None:
    (checkpoint / file).unlink()
    with pytest.raises(BadInput, match=f"half a checkpoint: no {file}"):
        read(checkpoint)


@pytest.mark.parametrize(
    ("file", "step", "settings"),
    [
        (PREPROCESSOR, "tokenizer_processor", {"padding_side": "left"}),
        (PREPROCESSOR, "tokenizer_processor", {"padding": False}),
        (PREPROCESSOR, "tokenizer_processor", {"max_length": 48}),
        (PREPROCESSOR, "device_processor", {"float_dtype": "bfloat16"}),
        (PREPROCESSOR, "normalizer_processor", {"eps": 1e-6}),
        (PREPROCESSOR, "normalizer_processor", {"normalize_observation_keys": ["observation.state"]}),
    ],
)
def test_a_setting_that_changes_the_policy_is_refused(
    checkpoint: Path, change_step: Change, file: str, step: str, settings: dict[str, Any]
) -> None:
    change_step(file, step, **settings)
    with pytest.raises(BadInput, match=f"{step}: {next(iter(settings))}"):
        read(checkpoint)


@pytest.mark.parametrize("step", ["libero_processor", "smolvla_new_line_processor"])
def test_an_unknown_step_is_named(checkpoint: Path, step: str) -> None:
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.insert(0, {"registry_name": step, "config": {}}))
    with pytest.raises(BadInput, match=f"{step} is not supported"):
        read(checkpoint)


def test_a_step_twice_is_named(checkpoint: Path) -> None:
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.append(steps[0]))
    with pytest.raises(BadInput, match="rename_observations_processor appears twice"):
        read(checkpoint)


@pytest.mark.parametrize("required", ["tokenizer_processor", "normalizer_processor"])
def test_a_missing_step_is_named(checkpoint: Path, required: str) -> None:
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.pop(named(steps, required)))
    with pytest.raises(BadInput, match=f"no {required} step"):
        read(checkpoint)


@pytest.mark.parametrize(
    ("family", "late", "early"),
    [
        ("pi0", "pi0_new_line_processor", "tokenizer_processor"),
        ("pi0", "relative_actions_processor", "normalizer_processor"),
        ("pi05", "normalizer_processor", "pi05_prepare_state_tokenizer_processor_step"),
        ("smolvla", "smolvla_new_line_processor", "tokenizer_processor"),
    ],
)
def test_steps_in_an_order_that_computes_something_else(tmp_path: Path, family: str, late: str, early: str) -> None:
    checkpoint = copy_checkpoint(GOLDENS / family, tmp_path)
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps.append(steps.pop(named(steps, late))))
    with pytest.raises(BadInput, match=f"{late} must come before {early}"):
        read(checkpoint)


def relative(
    checkpoint: Path, change_json: Change, change_step: Change, step: str = "relative_actions_processor"
) -> None:
    names = [f"joint{n}" for n in range(1, 7)] + ["gripper"]
    change_json("config.json", use_relative_actions=True, action_feature_names=names)
    change_step(PREPROCESSOR, "relative_actions_processor", enabled=True, action_names=names)
    change_step(POSTPROCESSOR, "absolute_actions_processor", enabled=True)
    rewrite(
        checkpoint,
        PREPROCESSOR,
        lambda steps: steps[named(steps, "relative_actions_processor")].update(registry_name=step),
    )


@pytest.mark.parametrize("step", ["relative_actions_processor", "delta_actions_processor"])
def test_relative_actions_under_either_releases_name(
    checkpoint: Path, change_json: Change, change_step: Change, step: str
) -> None:
    relative(checkpoint, change_json, change_step, step)
    config, _ = read_layout(open_contents(checkpoint))
    assert config.relative == (True,) * 6 + (False,)


def test_relative_actions_that_nothing_makes_absolute(
    checkpoint: Path, change_json: Change, change_step: Change
) -> None:
    relative(checkpoint, change_json, change_step)
    change_step(POSTPROCESSOR, "absolute_actions_processor", enabled=False)
    with pytest.raises(BadInput, match="must both be enabled, or neither"):
        read(checkpoint)


@pytest.mark.parametrize("fields", [{"use_relative_actions": False}, {"relative_exclude_joints": ["joint6"]}])
def test_relative_actions_that_the_config_denies(
    checkpoint: Path, change_json: Change, change_step: Change, fields: dict[str, Any]
) -> None:
    relative(checkpoint, change_json, change_step)
    change_json("config.json", **fields)
    with pytest.raises(BadInput, match="makes other dimensions relative"):
        read(checkpoint)


def test_identity_needs_no_statistics(checkpoint: Path, change_json: Change, change_step: Change) -> None:
    change_json("config.json", normalization_mapping=IDENTITY)
    change_step(PREPROCESSOR, "normalizer_processor", norm_map=IDENTITY)
    change_step(POSTPROCESSOR, "unnormalizer_processor", norm_map=IDENTITY)
    (checkpoint / STATISTICS).unlink()
    assert read(checkpoint).state == identity(7)


@pytest.mark.parametrize(
    ("mode", "low", "high"), [("MIN_MAX", "min", "max"), ("QUANTILES", "q01", "q99"), ("QUANTILE10", "q10", "q90")]
)
def test_every_normalisation_reads_its_own_statistics(tmp_path: Path, mode: str, low: str, high: str) -> None:
    checkpoint = copy_checkpoint(GOLDENS / "pi05", tmp_path)
    mapping = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalization_mapping": mapping}))
    for file, step in ((PREPROCESSOR, "normalizer_processor"), (POSTPROCESSOR, "unnormalizer_processor")):
        rewrite(checkpoint, file, lambda steps, step=step: steps[named(steps, step)]["config"].update(norm_map=mapping))
    stored = load_file(checkpoint / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    action = read(checkpoint).action
    lowest, highest = np.array(action.offset) - action.scale, np.array(action.offset) + action.scale
    np.testing.assert_allclose(lowest, stored[f"action.{low}"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(highest, stored[f"action.{high}"], rtol=1e-6, atol=1e-6)


def test_a_processor_that_contradicts_the_config_is_refused(checkpoint: Path, change_json: Change) -> None:
    change_json("config.json", normalization_mapping=IDENTITY)
    with pytest.raises(BadInput, match="MEAN_STD for STATE"):
        read(checkpoint)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(6), "must be 7 finite numbers"),
        (torch.full((7,), float("nan")), "finetune"),
        (torch.full((7,), float("inf")), "finetune"),
        (torch.full((7,), -1.0), "negative"),
        (None, "finetune"),
    ],
)
def test_bad_statistics_are_named(checkpoint: Path, values: torch.Tensor | None, message: str) -> None:
    tensors = load_file(checkpoint / STATISTICS)
    del tensors["observation.state.std"]
    if values is not None:
        tensors["observation.state.std"] = values
    save_file(tensors, checkpoint / STATISTICS)
    with pytest.raises(BadInput, match=message) as raised:
        read(checkpoint)
    assert "observation.state" in str(raised.value)


def test_a_base_model_has_no_statistics(checkpoint: Path) -> None:
    rewrite(checkpoint, PREPROCESSOR, lambda steps: steps[-1].pop("state_file"))
    with pytest.raises(BadInput, match=r"no statistics observation\.state\.mean, there are none .*finetune"):
        read(checkpoint)


def test_statistics_outside_the_checkpoint_are_refused(checkpoint: Path) -> None:
    path = checkpoint / PREPROCESSOR
    path.write_text(path.read_text().replace(STATISTICS, f"../{STATISTICS}"))
    with pytest.raises(BadInput, match="no statistics file beside it"):
        read(checkpoint)


def test_a_missing_statistics_file_is_named(checkpoint: Path) -> None:
    (checkpoint / STATISTICS).unlink()
    with pytest.raises(BadInput, match=STATISTICS):
        read(checkpoint)


def test_cameras_are_called_as_the_robots_data_calls_them(checkpoint: Path, change_step: Change) -> None:
    renaming = {"observation.images.table": "observation.images.side"}
    change_step(PREPROCESSOR, "rename_observations_processor", rename_map=renaming)
    assert read(checkpoint).sources == {"observation.images.side": "observation.images.table"}
