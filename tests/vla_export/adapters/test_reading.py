"""Which form a file is, by what is in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from vla_export.adapters.reading import find_adapter, read_adapter
from vla_runtime.errors import BadInput

PEFT = Path("tests/oracles/goldens/peft/lora")
CONFIG = {"method": "lora_sp", "r": 1, "alpha": 2, "num_experts": 2}
BRANCH = {"q.A": torch.ones(2, 3), "q.B": torch.ones(4, 2), "q.router.weight": torch.ones(2, 3)}
WRAPPED = {**BRANCH, "q.base.weight": torch.ones(4, 3), "norm.weight": torch.ones(3)}


def experts() -> dict[str, Tensor]:
    A, B, gate = torch.ones(1, 3), torch.ones(4, 1), torch.ones(1, 3)
    copy = "q.moe_layer.default.specialized_experts.0"
    return {
        "q.base_layer.weight": torch.ones(4, 3),
        "q.lora_A.default.0.weight": A,
        "q.lora_B.default.0.weight": B,
        "q.lora_gating.default.weight": gate,
        "q.moe_layer.default.gate.weight": gate,
        f"{copy}.lora_A.weight": A,
        f"{copy}.lora_B.weight": B,
        f"{copy}.scaling": torch.tensor(1.0),
    }


def lora_sp(directory: Path, name: str = "adapters.safetensors") -> Path:
    save_file(BRANCH, directory / name)
    (directory / Path(name).with_suffix(".json")).write_text(json.dumps(CONFIG), encoding="utf-8")
    return directory / name


def wrapped(directory: Path, name: str = "model.safetensors") -> Path:
    save_file(WRAPPED, directory / name)
    (directory / "adapters.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return directory / name


def gse(directory: Path, name: str = "steps_1_pytorch_model.pt") -> Path:
    (directory / "checkpoints").mkdir()
    torch.save(experts(), directory / "checkpoints" / name)
    (directory / "config.yaml").write_text(yaml.safe_dump({"trainer": {"gse": {"top_k": 1}}}), encoding="utf-8")
    (directory / "dataset_statistics.json").write_text("{}", encoding="utf-8")
    return directory / "checkpoints" / name


def refused(path: Path, config: Path | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        read_adapter(path, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("write", "name", "form"),
    [
        (lora_sp, "adapters.safetensors", "LoRA-SP with the released semantics"),
        (lora_sp, "model.safetensors", "LoRA-SP with the released semantics"),
        (wrapped, "model.safetensors", "LoRA-SP with the released semantics"),
        (wrapped, "adapters.safetensors", "LoRA-SP with the released semantics"),
        (gse, "steps_1_pytorch_model.pt", "VLA-GSE"),
        (gse, "policy.bin", "VLA-GSE"),
    ],
)
def test_a_file_is_what_it_holds_whatever_it_is_called(tmp_path: Path, write: Any, name: str, form: str) -> None:
    adapter = read_adapter(write(tmp_path, name))
    assert adapter.form == form
    assert set(adapter.updates) == {"q"}
    assert (adapter.policy is None) == (write is lora_sp)


def test_pefts_directory_and_the_file_in_it_are_the_same_adapter() -> None:
    directory, file = read_adapter(PEFT), read_adapter(PEFT / "adapter_model.safetensors")
    assert directory.form == file.form == "LoRA of peft"
    assert set(directory.updates) == set(file.updates)


@pytest.mark.parametrize("write", [lora_sp, wrapped])
def test_a_checkpoints_directory_may_hold_its_adapter(tmp_path: Path, write: Any) -> None:
    assert find_adapter(tmp_path) is None
    write(tmp_path)
    found = find_adapter(tmp_path)
    assert found is not None
    assert read_adapter(tmp_path).updates.keys() == read_adapter(found).updates.keys() == {"q"}


def test_pefts_files_are_found_in_a_checkpoints_directory(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(PEFT, tmp_path / "checkpoint"))
    assert find_adapter(directory) == directory


def test_a_plain_checkpoint_holds_no_adapter(tmp_path: Path) -> None:
    save_file({"q.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert find_adapter(tmp_path) is None
    assert "no adapter in this directory; name the file" in refused(tmp_path)
    assert "holds q.weight and no adapter; expected LoRA-SP's adapters.safetensors" in refused(
        tmp_path / "model.safetensors"
    )


def test_a_state_dict_without_experts_is_refused(tmp_path: Path) -> None:
    torch.save({"q.weight": torch.ones(2)}, tmp_path / "model.pt")
    assert "a state dict without VLA-GSE's experts" in refused(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapters.safetensors").write_bytes(content)
    assert "adapters.safetensors" in refused(tmp_path / "adapters.safetensors")


def test_a_missing_path_is_named_with_what_it_may_be(tmp_path: Path) -> None:
    assert "no such file; expected LoRA-SP's adapters.safetensors" in refused(tmp_path / "none")


def test_peft_takes_no_other_configuration(tmp_path: Path) -> None:
    assert "peft's adapters bring their own adapter_config.json" in refused(PEFT, tmp_path / "config.json")


@pytest.mark.parametrize("write", [lora_sp, wrapped])
def test_a_configuration_given_by_hand_comes_first(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path)
    own = tmp_path / "own.json"
    own.write_text(json.dumps({**CONFIG, "semantics": "paper"}), encoding="utf-8")
    assert read_adapter(path, own).form == "LoRA-SP with the paper semantics"
