"""Reading LoRA-SP adapters: what is accepted, and the one line for each thing that is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

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


def test_reads_every_branch_with_its_configuration(files: Any) -> None:
    tensors = files.tensors()
    adapter = read_lora_sp(files.write(tensors))
    assert adapter.config.model_dump() == {
        **GOOD,
        "threshold": 0.9,
        "semantics": "released",
        "router_projection": False,
    }
    assert (adapter.config.bank, adapter.config.scale) == (6, 2.0)
    assert set(adapter.branches) == set(files.modules)
    assert torch.equal(adapter.branches[SOURCE].A, tensors[f"{SOURCE}.A"])
    assert torch.equal(adapter.branches[SOURCE].B, tensors[f"{SOURCE}.B"])
    assert torch.equal(adapter.branches[SOURCE].router, tensors[f"{SOURCE}.router.weight"])


def test_the_configuration_may_be_yaml(files: Any) -> None:
    path = files.write(files.tensors(), config=None)
    path.with_suffix(".yaml").write_text(
        "method: lora_sp\nr: 2\nalpha: 4\nnum_experts: 3\nthreshold: 0.75\nsemantics: paper\n", encoding="utf-8"
    )
    config = read_lora_sp(path).config
    assert (config.alpha, config.threshold, config.semantics) == (4.0, 0.75, "paper")


def test_a_missing_configuration_is_named_with_its_fields(files: Any) -> None:
    message = refused(files.write(files.tensors(), config=None))
    assert "adapters.json or adapters.yaml" in message
    for field in ("method", "r", "alpha", "num_experts", "threshold", "semantics"):
        assert field in message


def test_two_configurations_are_one_too_many(files: Any) -> None:
    path = files.write(files.tensors())
    path.with_suffix(".yaml").write_text("method: lora_sp\n", encoding="utf-8")
    assert "both exist" in refused(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"alpha": None}, "alpha: Field required"),
        ({"rank": 4}, "rank: Extra inputs are not permitted"),
        ({"r": "2"}, "r: Input should be a valid integer"),
        ({"r": 0}, "r: Input should be greater than 0"),
        ({"threshold": 1.5}, "threshold: Input should be less than or equal to 1"),
        ({"method": "lora"}, "method: Input should be 'lora_sp'"),
        ({"semantics": "other"}, "semantics: Input should be 'released' or 'paper'"),
        ({"router_projection": True}, "router_projection is not supported yet"),
    ],
)
def test_a_wrong_field_is_named(files: Any, change: dict[str, Any], expected: str) -> None:
    config = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    assert expected in refused(files.write(files.tensors(), config))


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null"])
def test_a_configuration_that_is_not_one_is_refused(files: Any, text: str) -> None:
    path = files.write(files.tensors(), config=None)
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    assert "adapters.json" in refused(path)


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
    assert f"{SOURCE}.A and {SOURCE}.router.weight differ" in refused(files.write(tensors))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_tensor_that_is_not_finite_is_named(files: Any, value: float) -> None:
    tensors = files.tensors()
    tensors[f"{SOURCE}.B"][0, 0] = value
    assert f"{SOURCE}.B is not all finite" in refused(files.write(tensors))


@pytest.mark.parametrize("key", [f"{SOURCE}.router_proj", f"{SOURCE}.weight", "A"])
def test_an_unknown_tensor_is_named(files: Any, key: str) -> None:
    assert f"unknown tensor {key}" in refused(files.write({**files.tensors(), key: torch.ones(6, 3)}))


def test_an_adapter_that_changes_nothing_is_refused(files: Any) -> None:
    tensors = {key: torch.zeros_like(t) if key.endswith(".B") else t for key, t in files.tensors().items()}
    assert "every B is zero" in refused(files.write(tensors))


def test_an_empty_adapter_is_refused(files: Any) -> None:
    assert "holds no tensors" in refused(files.write({}))


def test_a_file_that_is_not_safetensors_is_refused(files: Any) -> None:
    path = files.write(files.tensors())
    path.write_bytes(path.read_bytes()[:100])
    assert "not a readable safetensors file" in refused(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "adapters.safetensors: no such file" in refused(tmp_path / "adapters.safetensors")
