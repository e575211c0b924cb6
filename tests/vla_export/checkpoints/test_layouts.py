"""Which layout a directory has: by its keys and fields, and an error wherever that leaves a doubt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.vla_export.checkpoints.golden_policies import GOLDENS, LAYOUTS, change_config, copy_checkpoint
from tests.vla_export.checkpoints.layout_writers import in_shards
from vla_export.checkpoints.contents import open_contents
from vla_export.checkpoints.layouts import LAYOUTS as KNOWN
from vla_export.checkpoints.reading import read
from vla_runtime.errors import BadInput

EVERY = [GOLDENS / "pi0", GOLDENS / "pi05", GOLDENS / "smolvla", *sorted(LAYOUTS.iterdir())]


@pytest.fixture(params=EVERY, ids=lambda path: path.name)
def any_checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copy_checkpoint(request.param, tmp_path)


def change_tensors(checkpoint: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    edit(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, checkpoint / "model.safetensors")


def test_exactly_one_layout_recognises_each(any_checkpoint: Path) -> None:
    contents = open_contents(any_checkpoint)
    (layout,) = (layout for layout in KNOWN if layout.recognises(contents))
    expected = {"openpi": "openpi", "lora_sp": "LoRA-SP", "lerobot_0_3": "up to 0.3"}
    name = next((name for start, name in expected.items() if any_checkpoint.name.startswith(start)), "0.4 to 0.6")
    assert name in layout.name


def test_the_directorys_name_says_nothing(any_checkpoint: Path) -> None:
    renamed = any_checkpoint.rename(any_checkpoint.with_name("openpi_lerobot_0_3_smolvla"))
    assert read(renamed).family in any_checkpoint.name


@pytest.mark.parametrize("family", ["act", None, 3, ["pi0"]])
def test_an_unknown_family_is_named_with_the_supported_ones(checkpoint: Path, family: object) -> None:
    change_config(checkpoint, type=family)
    with pytest.raises(BadInput) as raised:
        read(checkpoint)
    assert repr(family) in str(raised.value)
    assert "pi0, pi05, smolvla" in str(raised.value)


def test_pi05_is_younger_than_statistics_among_the_weights(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(LAYOUTS / "lerobot_0_3_pi0", tmp_path)
    change_config(checkpoint, type="pi05")
    with pytest.raises(BadInput, match=r"unknown family 'pi05' .* up to 0\.3 or LoRA-SP: pi0, smolvla"):
        read(checkpoint)


def test_two_sets_of_statistics(checkpoint: Path) -> None:
    change_tensors(checkpoint, lambda t: t.update({"normalize_inputs.buffer_observation_state.mean": torch.zeros(7)}))
    with pytest.raises(BadInput, match=r"in two ways at once: .*LeRobot 0\.4 to 0\.6.*LoRA-SP"):
        read(checkpoint)


def test_no_statistics_at_all(checkpoint: Path) -> None:
    for path in checkpoint.glob("policy_*"):
        path.unlink()
    with pytest.raises(BadInput, match=r"no statistics .*policy_preprocessor\.json .*finetune"):
        read(checkpoint)


def test_no_known_layout(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))
    with pytest.raises(
        BadInput, match=r"no layout .*\(hidden_size, model_type, …\).*LeRobot 0\.4 to 0\.6: 'type'.*openpi"
    ):
        read(checkpoint)


def test_an_openpi_checkpoint_that_was_given_a_type(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(LAYOUTS / "openpi_pi0", tmp_path)
    change_config(checkpoint, type="pi0")
    with pytest.raises(BadInput, match="no statistics"):
        read(checkpoint)


def test_a_config_of_one_release_with_the_files_of_another(checkpoint: Path) -> None:
    shutil.copyfile(LAYOUTS / "lerobot_0_3_pi0" / "config.json", checkpoint / "config.json")
    with pytest.raises(
        BadInput, match=r"unknown field .*proj_width.*expected the config\.json of π0 or π0\.5 in LeRobot"
    ):
        read(checkpoint)


def test_weights_of_another_family(checkpoint: Path) -> None:
    shutil.copyfile(GOLDENS / "smolvla" / "model.safetensors", checkpoint / "model.safetensors")
    with pytest.raises(BadInput, match=r"does not fit the policy that config\.json describes: \d+ missing"):
        read(checkpoint)


def test_adapters_inside_the_weights(tmp_path: Path) -> None:
    checkpoint = copy_checkpoint(LAYOUTS / "lora_sp_pi0", tmp_path)
    change_tensors(checkpoint, lambda t: t.update({"model.state_proj.base.weight": t.pop("model.state_proj.weight")}))
    with pytest.raises(BadInput, match=r"1 linears are wrapped in adapters \(model\.state_proj\.base\.weight"):
        read(checkpoint)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json", "deployment.yaml"])
def test_half_a_directory(any_checkpoint: Path, file: str) -> None:
    (any_checkpoint / file).unlink()
    with pytest.raises(BadInput, match=file) as raised:
        read(any_checkpoint)
    assert "\n" not in str(raised.value)


def test_every_unknown_field_is_named(any_checkpoint: Path) -> None:
    change_config(any_checkpoint, surprise=1)
    with pytest.raises(BadInput, match="unknown field surprise"):
        read(any_checkpoint)


def test_an_unknown_tensor_is_named(any_checkpoint: Path) -> None:
    change_tensors(any_checkpoint, lambda t: t.update({"model.surprise.weight": torch.zeros(3)}))
    with pytest.raises(BadInput, match=r"1 unexpected: model\.surprise\.weight"):
        read(any_checkpoint)


def test_a_truncated_shard_is_named(any_checkpoint: Path) -> None:
    in_shards(any_checkpoint)
    shard = any_checkpoint / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(BadInput, match=shard.name) as raised:
        read(any_checkpoint)
    assert "\n" not in str(raised.value)


def test_a_missing_shard_is_named(any_checkpoint: Path) -> None:
    in_shards(any_checkpoint)
    (any_checkpoint / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(BadInput, match=r"1 of 3 shards are missing: model-00003"):
        read(any_checkpoint)
