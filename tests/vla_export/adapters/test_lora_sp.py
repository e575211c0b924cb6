"""Reading adapters.safetensors of LoRA-SP's release: what is accepted, and the one line for each thing that is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.lora_sp import read_lora_sp
from vla_runtime.errors import BadInput

SOURCE = "model.trained.language.layers.0.attention.q_proj"
GOOD: dict[str, Any] = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3}


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_lora_sp(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_every_branch_with_its_scale(files: Any) -> None:
    tensors = files.tensors()
    adapter = read_lora_sp(files.write(tensors))
    assert adapter.form == "LoRA-SP with the released semantics"
    assert set(adapter.updates) == set(files.modules)
    branch = adapter.updates[SOURCE].branch
    assert branch is not None
    assert torch.equal(branch.A, tensors[f"{SOURCE}.A"])
    assert torch.equal(branch.B, 2.0 * tensors[f"{SOURCE}.B"])
    assert torch.equal(branch.router, tensors[f"{SOURCE}.router.weight"])
    assert isinstance(branch.gating, EnergyGating)
    assert (branch.gating.directions, branch.gating.threshold, branch.gating.semantics) == (6, 0.9, "released")


def test_a_configuration_may_lie_elsewhere(files: Any, tmp_path: Path) -> None:
    path = files.write(files.tensors(), config=None)
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text("method: lora_sp\nr: 2\nalpha: 4\nnum_experts: 3\nsemantics: paper\n", encoding="utf-8")
    assert read_lora_sp(path, elsewhere).form == "LoRA-SP with the paper semantics"


@pytest.mark.parametrize("part", ["A", "B", "router.weight"])
def test_an_incomplete_triple_is_named(files: Any, part: str) -> None:
    tensors = files.tensors()
    del tensors[f"{SOURCE}.{part}"]
    assert f"{SOURCE}.{part} missing" in refused(files.write(tensors))


@pytest.mark.parametrize("part", ["A", "B", "router.weight"])
def test_a_misshapen_tensor_is_named_with_what_it_should_be(files: Any, part: str) -> None:
    tensors = files.tensors()
    tensors[f"{SOURCE}.{part}"] = torch.ones(5, 5)
    message = refused(files.write(tensors))
    assert f"{SOURCE}.{part} has shape (5, 5)" in message
    assert "6" in message


def test_a_router_for_another_width_is_refused(files: Any) -> None:
    tensors = files.tensors()
    tensors[f"{SOURCE}.router.weight"] = torch.ones(6, 5)
    assert f"{SOURCE}.router.weight has shape (6, 5); expected (6, 24)" in refused(files.write(tensors))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_tensor_that_is_not_finite_is_named(files: Any, value: float) -> None:
    tensors = files.tensors()
    tensors[f"{SOURCE}.B"][0, 0] = value
    assert f"{SOURCE}.B is not all finite" in refused(files.write(tensors))


@pytest.mark.parametrize("key", [f"{SOURCE}.router_proj", f"{SOURCE}.weight", "A"])
def test_an_unknown_tensor_is_named(files: Any, key: str) -> None:
    assert f"unknown tensor {key}" in refused(files.write({**files.tensors(), key: torch.ones(6, 3)}))


@pytest.mark.parametrize("part", ["A", "B"])
def test_an_adapter_that_changes_nothing_is_refused(files: Any, part: str) -> None:
    tensors = {key: torch.zeros_like(t) if key.endswith(f".{part}") else t for key, t in files.tensors().items()}
    assert "changes nothing" in refused(files.write(tensors))


def test_an_empty_adapter_is_refused(files: Any) -> None:
    assert "holds no tensors" in refused(files.write({}))


@pytest.mark.parametrize("size", [4, 100, -8])
def test_a_truncated_file_is_refused(files: Any, size: int) -> None:
    path = files.write(files.tensors())
    path.write_bytes(path.read_bytes()[:size])
    assert "cannot be read as safetensors" in refused(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "adapters.safetensors: no such file" in refused(tmp_path / "adapters.safetensors")
