from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_export.checkpoints.lerobot_config import ACTION, STATE
from vla_export.checkpoints.lerobot_processors import POSTPROCESSOR, PREPROCESSOR, read_processing
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

WIDTHS = {STATE: 7, ACTION: 7}
MAPPING = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
STATISTICS = "policy_preprocessor_step_6_normalizer_processor.safetensors"


def test_lerobots_own_files_are_understood(checkpoint: Path) -> None:
    found = read_processing(checkpoint, WIDTHS, MAPPING)
    assert (found.template, found.max_tokens) == ("{task}\n", 24)
    assert found.tokenizer_name == "google/paligemma-3b-pt-224"
    assert found.state.mode == found.action.mode == "mean_std"


def test_without_the_newline_step_there_is_no_newline(checkpoint: Path) -> None:
    path = checkpoint / PREPROCESSOR
    content = json.loads(path.read_text())
    content["steps"] = [s for s in content["steps"] if s["registry_name"] != "pi0_new_line_processor"]
    path.write_text(json.dumps(content))
    assert read_processing(checkpoint, WIDTHS, MAPPING).template == "{task}"


@pytest.mark.parametrize("file", [PREPROCESSOR, POSTPROCESSOR])
def test_a_missing_processor_file_is_named(checkpoint: Path, file: str) -> None:
    (checkpoint / file).unlink()
    with pytest.raises(BadInput, match=f"no {file}"):
        read_processing(checkpoint, WIDTHS, MAPPING)


@pytest.mark.parametrize(
    ("file", "step", "settings"),
    [
        (PREPROCESSOR, "relative_actions_processor", {"enabled": True}),
        (POSTPROCESSOR, "absolute_actions_processor", {"enabled": True}),
        (PREPROCESSOR, "tokenizer_processor", {"padding_side": "left"}),
        (PREPROCESSOR, "device_processor", {"float_dtype": "bfloat16"}),
        (PREPROCESSOR, "normalizer_processor", {"eps": 1e-6}),
        (PREPROCESSOR, "normalizer_processor", {"normalize_observation_keys": ["observation.state"]}),
    ],
)
def test_a_setting_that_changes_the_policy_is_refused(
    checkpoint: Path, change_step: Callable[..., None], file: str, step: str, settings: dict[str, Any]
) -> None:
    change_step(file, step, **settings)
    with pytest.raises(BadInput, match=f"{step}: {next(iter(settings))}"):
        read_processing(checkpoint, WIDTHS, MAPPING)


def test_an_unknown_step_is_named(checkpoint: Path) -> None:
    path = checkpoint / PREPROCESSOR
    content = json.loads(path.read_text())
    content["steps"].insert(0, {"registry_name": "libero_processor", "config": {}})
    path.write_text(json.dumps(content))
    with pytest.raises(BadInput, match="libero_processor"):
        read_processing(checkpoint, WIDTHS, MAPPING)


def test_identity_needs_no_statistics(checkpoint: Path, change_step: Callable[..., None]) -> None:
    mapping = MAPPING | {"STATE": "IDENTITY"}
    change_step(PREPROCESSOR, "normalizer_processor", norm_map=mapping)
    assert read_processing(checkpoint, WIDTHS, mapping).state == Normalisation(mode="identity")


@pytest.mark.parametrize("mode", ["MIN_MAX", "QUANTILES"])
def test_other_normalisations_are_refused(checkpoint: Path, change_step: Callable[..., None], mode: str) -> None:
    mapping = MAPPING | {"STATE": mode}
    change_step(PREPROCESSOR, "normalizer_processor", norm_map=mapping)
    with pytest.raises(BadInput, match=mode):
        read_processing(checkpoint, WIDTHS, mapping)


def test_a_processor_that_contradicts_the_config_is_refused(checkpoint: Path) -> None:
    with pytest.raises(BadInput, match="ACTION"):
        read_processing(checkpoint, WIDTHS, MAPPING | {"ACTION": "IDENTITY"})


@pytest.mark.parametrize(
    ("values", "message"),
    [(torch.zeros(6), "7 finite numbers"), (torch.full((7,), float("nan")), "7 finite numbers"), (None, "have no")],
)
def test_bad_statistics_are_named(checkpoint: Path, values: torch.Tensor | None, message: str) -> None:
    tensors = load_file(checkpoint / STATISTICS)
    del tensors["observation.state.std"]
    if values is not None:
        tensors["observation.state.std"] = values
    save_file(tensors, checkpoint / STATISTICS)
    with pytest.raises(BadInput, match=message) as raised:
        read_processing(checkpoint, WIDTHS, MAPPING)
    assert "observation.state.std" in str(raised.value)


def test_statistics_outside_the_checkpoint_are_refused(checkpoint: Path) -> None:
    path = checkpoint / PREPROCESSOR
    path.write_text(path.read_text().replace(STATISTICS, f"../{STATISTICS}"))
    with pytest.raises(BadInput, match="no statistics file beside it"):
        read_processing(checkpoint, WIDTHS, MAPPING)


def test_a_missing_statistics_file_is_named(checkpoint: Path) -> None:
    (checkpoint / STATISTICS).unlink()
    with pytest.raises(BadInput, match=STATISTICS):
        read_processing(checkpoint, WIDTHS, MAPPING)
