"""Configurations of LoRA-SP's release, in this project's fields and in its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vla_export.adapters.four_bit import FourBit
from vla_export.adapters.release_config import (
    AdaLoRAConfig,
    LoRAConfig,
    LoRAMoEConfig,
    LoRASPConfig,
    find_release_config,
    read_release_config,
)
from vla_runtime.errors import BadInput

GOOD: dict[str, Any] = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3}
# Every field that the release's LoraMSPConfig has, as its training writes them.
RELEASED: dict[str, Any] = {
    "layer_type": "lora_msp",
    "r": 128,
    "alpha": 256,
    "dropout": 0.05,
    "fan_in_fan_out": False,
    "quantize": False,
    "quant_type": "fp4",
    "compute_dtype_": "torch.bfloat16",
    "compress_statistics": False,
    "quant_storage_": "torch.uint8",
    "num_experts": 4,
    "target_threshold": 0.8,
    "target_threshold_init": 0.9,
    "target_threshold_end": None,
    "threshold_scheduling": None,
    "max_threshold_step": 0.2,
    "use_spec_loss": True,
    "use_modular_loss": False,
    "use_id_loss": False,
    "router_projection": False,
    "routing": "weighted",
    "router_weight_update": "vanilla",
}


def written(directory: Path, content: object, name: str = "adapters.json") -> Path:
    path = directory / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_release_config(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_releases(tmp_path: Path) -> None:
    config = read_release_config(written(tmp_path, GOOD))
    assert config == LoRASPConfig(r=2, alpha=4.0, num_experts=3, threshold=0.9, semantics="released")
    assert isinstance(config, LoRASPConfig)
    assert (config.bank, config.scale) == (6, 2.0)


def test_the_configuration_may_be_yaml(tmp_path: Path) -> None:
    path = tmp_path / "adapters.yaml"
    path.write_text("method: lora_sp\nr: 2\nalpha: 4\nnum_experts: 3\nthreshold: 0.75\n", encoding="utf-8")
    assert read_release_config(path) == LoRASPConfig(r=2, alpha=4.0, num_experts=3, threshold=0.75)


@pytest.mark.parametrize(
    "content",
    [RELEASED, {"lora_cfg": RELEASED, "core": "lora_msp"}, {"method": {"lora_cfg": RELEASED, "core": "lora_msp"}}],
    ids=["the section", "the method", "the run"],
)
def test_the_releases_own_fields_are_understood(tmp_path: Path, content: dict[str, Any]) -> None:
    expected = LoRASPConfig(r=128, alpha=256, num_experts=4, threshold=0.8)
    assert read_release_config(written(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"layer_type": "lora", "r": 8, "alpha": 16, "dropout": 0.1}, LoRAConfig(r=8, alpha=16)),
        (
            {"layer_type": "lora_moe", "r": 8, "alpha": 16, "num_experts": 4, "routing": "top2"},
            LoRAMoEConfig(r=8, alpha=16, num_experts=4, routing="top2"),
        ),
        ({"layer_type": "lora_ada", "r": 8, "alpha": 16, "merge_weights": False}, AdaLoRAConfig(r=8, alpha=16)),
        ({"method": "lora_moe", "r": 8, "alpha": 16, "num_experts": 4}, LoRAMoEConfig(r=8, alpha=16, num_experts=4)),
        (
            {"layer_type": "lora", "r": 8, "alpha": 16, "quantize": True, "quant_type": "nf4"},
            LoRAConfig(r=8, alpha=16, four_bit=FourBit(code="nf4", compressed=False)),
        ),
    ],
)
def test_its_other_methods_too(tmp_path: Path, content: dict[str, Any], expected: Any) -> None:
    assert read_release_config(written(tmp_path, content)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"alpha": None}, "alpha: Field required"),
        ({"num_experts": None}, "num_experts: Field required"),
        ({"rank": 4}, "rank: Extra inputs are not permitted"),
        ({"r": "2"}, "r: Input should be a valid integer"),
        ({"r": 0}, "r: Input should be greater than 0"),
        ({"threshold": 1.5}, "threshold: Input should be less than or equal to 1"),
        ({"method": "dora"}, "method must be one of lora_sp, lora, lora_moe, lora_ada"),
        ({"method": None}, "method must be one of"),
        ({"semantics": "other"}, "semantics: Input should be 'released' or 'paper'"),
        ({"routing": "top3"}, "routing: Input should be 'weighted', 'top1' or 'top2'"),
        ({"layer_type": "lora_xl"}, "layer_type is 'lora_xl', expected one of lora_msp"),
        ({"layer_type": "lora_msp", "fan_in_fan_out": True}, "fan_in_fan_out is not supported"),
        ({"layer_type": "lora_msp", "threshold_scheduling": "linear"}, "set threshold_scheduling to null"),
        ({"layer_type": "lora_msp", "quantize": True, "quant_type": "int3"}, "four_bit.code: Input should be"),
        ({"lora_cfg": None, "core": "vanilla"}, "this run trained no adapter"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    content = {name: value for name, value in {**GOOD, **change}.items() if value is not None or name == "lora_cfg"}
    assert expected in refused(written(tmp_path, content))


@pytest.mark.parametrize("text", ["{", "[1, 2]", "null"])
def test_a_configuration_that_is_not_one_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "adapters.json"
    path.write_text(text, encoding="utf-8")
    assert "adapters.json" in refused(path)


def test_a_missing_configuration_is_named_with_its_fields(tmp_path: Path) -> None:
    written(tmp_path, {"steps": 3}, "train_config.json")  # LeRobot's own, which knows no adapter
    with pytest.raises(BadInput) as caught:
        find_release_config(tmp_path, "adapters")
    assert "adapters.json or adapters.yaml" in str(caught.value)
    for field in ("method", "r", "alpha", "num_experts", "threshold", "semantics"):
        assert field in str(caught.value)
    assert "no such file" in refused(tmp_path / "none.json")


def test_two_configurations_are_one_too_many(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    (tmp_path / "adapters.yaml").write_text("method: lora_sp\n", encoding="utf-8")
    with pytest.raises(BadInput, match="both exist"):
        find_release_config(tmp_path, "adapters")


def test_what_training_wrote_is_found_and_what_the_user_wrote_comes_first(tmp_path: Path) -> None:
    run = written(tmp_path, {"method": {"lora_cfg": RELEASED}}, "train_config.json")
    assert find_release_config(tmp_path, "adapters") == run
    own = written(tmp_path, GOOD)
    assert find_release_config(tmp_path, "adapters") == own
