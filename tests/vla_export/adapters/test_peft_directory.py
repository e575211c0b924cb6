"""Directories of peft's: its own numbers for its own files, and everything in a configuration that changes a result."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vla_export.adapters.apply import apply_exact
from vla_export.adapters.peft_directory import CONFIG, FILE, read_peft
from vla_runtime.errors import BadInput

GOLDENS = Path("tests/oracles/goldens/peft")
FORMS = {
    "lora": "LoRA of peft",
    "rslora": "rsLoRA of peft",
    "dora": "DoRA of peft",
    "dora_rslora": "DoRA with rsLoRA of peft",
    "pissa": "PiSSA of peft",
    "pissa_converted": "LoRA of peft",
    "patterns": "LoRA of peft",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A writable copy of the plain one."""
    return Path(shutil.copytree(GOLDENS / "lora", tmp_path / "adapter"))


def change(directory: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    edit(content)
    (directory / CONFIG).write_text(json.dumps(content), encoding="utf-8")


def change_tensors(directory: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(directory / FILE)
    edit(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / FILE)


def refused(directory: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_peft(directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def base(golden: dict[str, Tensor]) -> nn.Module:
    """The two layers of two linears that the goldens were written with."""
    layers = nn.ModuleList()
    for n in range(2):
        layer = nn.Module()
        for name in ("q_proj", "down_proj"):
            weight, bias = (golden.get(f"base.layers.{n}.{name}.{part}") for part in ("weight", "bias"))
            assert weight is not None
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None).requires_grad_(False)
            linear.weight.copy_(weight)
            if bias is not None:
                linear.bias.copy_(bias)
            setattr(layer, name, linear)
        layers.append(layer)
    policy = nn.Module()
    policy.layers = layers
    return policy


@pytest.mark.parametrize(("name", "form"), FORMS.items())
def test_merges_to_what_peft_merges_to(name: str, form: str) -> None:
    golden = load_file(GOLDENS / name / "outputs.safetensors")
    adapter = read_peft(GOLDENS / name)
    assert adapter.form == form
    policy = base(golden)
    applied = apply_exact(policy, adapter, {path: path for path in adapter.updates})  # type: ignore[arg-type]
    assert len(applied) == 4
    for path in adapter.updates:
        linear = policy.get_submodule(path)
        assert float((linear.weight - golden[f"base.{path}.weight"]).norm()) > 0.01
        torch.testing.assert_close(linear.weight, golden[f"merged.{path}.weight"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(linear(golden[f"x.{path}"]), golden[f"y.{path}"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bias", "all"),
        ("modules_to_save", ["action_head"]),
        ("layer_replication", [[0, 2]]),
        ("use_qalora", True),
        ("lora_bias", True),
        ("fan_in_fan_out", True),
        ("target_parameters", ["experts.weight"]),
        ("trainable_token_indices", [1, 2]),
        ("alora_invocation_tokens", [7]),
        ("a_field_of_tomorrow", 3),
    ],
)
def test_what_would_change_the_result_is_refused(directory: Path, field: str, value: object) -> None:
    change(directory, lambda content: content.update({field: value}))
    assert f"{field} is {value!r}, which changes the result" in refused(directory)


@pytest.mark.parametrize("value", ["corda", "loftq", "lora_ga", "pissa_niter_4"])
def test_a_base_that_cannot_be_made_again_is_refused(directory: Path, value: str) -> None:
    change(directory, lambda content: content.update(init_lora_weights=value))
    assert f"init_lora_weights is {value!r}" in refused(directory)


@pytest.mark.parametrize(("value", "form"), [("pissa", "PiSSA of peft"), ("olora", "OLoRA of peft")])
def test_a_base_that_can_be_made_again_is_part_of_the_form(directory: Path, value: str, form: str) -> None:
    """That the numbers are peft's is shown beside `PeftLinear`."""
    change(directory, lambda content: content.update(init_lora_weights=value))
    assert read_peft(directory).form == form


@pytest.mark.parametrize("value", [True, False, "gaussian", "eva", "orthogonal"])
def test_how_training_began_is_of_no_matter_otherwise(directory: Path, value: object) -> None:
    change(directory, lambda content: content.update(init_lora_weights=value))
    assert read_peft(directory).form == "LoRA of peft"


def test_other_methods_are_refused(directory: Path) -> None:
    change(directory, lambda content: content.update(peft_type="IA3"))
    assert "peft_type: Input should be 'LORA'" in refused(directory)


def test_a_configuration_without_alpha_is_refused(directory: Path) -> None:
    change(directory, lambda content: content.pop("lora_alpha"))
    assert "lora_alpha: Field required" in refused(directory)


@pytest.mark.parametrize("name", [CONFIG, FILE])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    assert f"{name} is missing" in refused(directory)


def test_a_truncated_file_is_refused(directory: Path) -> None:
    (directory / FILE).write_bytes((directory / FILE).read_bytes()[:-20])
    assert "cannot be read as safetensors" in refused(directory)


KEY = "base_model.model.layers.0.q_proj"


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_a_missing_half_is_named(directory: Path, part: str) -> None:
    change_tensors(directory, lambda tensors: tensors.pop(f"{KEY}.{part}.weight"))
    assert f"layers.0.q_proj.{part}.weight is missing" in refused(directory)


def test_halves_of_two_ranks_are_refused(directory: Path) -> None:
    change_tensors(directory, lambda tensors: tensors.update({f"{KEY}.lora_B.weight": torch.ones(8, 5)}))
    assert "layers.0.q_proj.lora_B.weight has shape (8, 5); expected (8, 3)" in refused(directory)


@pytest.mark.parametrize("edit", [{"r": 4}, {"rank_pattern": {"q_proj": 4}}])
def test_another_rank_than_the_configurations_is_refused(directory: Path, edit: dict[str, object]) -> None:
    change(directory, lambda content: content.update(edit))
    found = refused(directory)
    assert "lora_A.weight has shape (3, " in found
    assert "expected (4, " in found
    assert "which adapter_config.json asks for" in found


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"lora_alpha": 0}, "lora_alpha: Input should be greater than 0"),
        ({"alpha_pattern": {"q_proj": -1}}, "alpha_pattern.q_proj: Input should be greater than 0"),
        ({"rank_pattern": {"(q_proj": 3}}, "'(q_proj' is no regular expression"),
    ],
)
def test_numbers_and_patterns_of_no_sense_are_refused(directory: Path, edit: dict[str, object], message: str) -> None:
    change(directory, lambda content: content.update(edit))
    assert message in refused(directory)


def test_a_tensor_under_two_names_is_refused(directory: Path) -> None:
    change_tensors(directory, lambda tensors: tensors.update({"layers.0.q_proj.lora_A.weight": torch.ones(3, 12)}))
    assert "lora_A.weight is there twice, under two names" in refused(directory)


@pytest.mark.parametrize("name", [f"{KEY}.lora_A.weight", f"{KEY}.lora_B.weight"])
def test_vectors_for_matrices_are_refused(directory: Path, name: str) -> None:
    change_tensors(directory, lambda tensors: tensors.update({name: torch.ones(3)}))
    assert f"{name.removeprefix('base_model.model.')} has shape (3,)" in refused(directory)


@pytest.mark.parametrize(
    "name", ["lora_embedding_A", "modules_to_save.weight", "lora_A.other.weight", ".lora_A.weight"]
)
def test_an_unknown_tensor_is_named(directory: Path, name: str) -> None:
    change_tensors(directory, lambda tensors: tensors.update({f"{KEY}.{name}": torch.ones(2)}))
    assert f"unknown tensor {KEY}.{name}" in refused(directory)


def test_norms_without_dora_are_refused_and_dora_without_norms_too(tmp_path: Path) -> None:
    for use_dora, message in ((False, "lora_magnitude_vector is not a part of LoRA"), (True, "is missing")):
        form = "lora" if use_dora else "dora"
        directory = Path(shutil.copytree(GOLDENS / form, tmp_path / form))
        change(directory, lambda content, use_dora=use_dora: content.update(use_dora=use_dora))
        assert message in refused(directory)


def test_an_adapter_that_changes_nothing_is_refused(directory: Path) -> None:
    change_tensors(
        directory, lambda tensors: tensors.update({n: t * 0 for n, t in tensors.items() if n.endswith("lora_B.weight")})
    )
    assert "changes nothing" in refused(directory)
