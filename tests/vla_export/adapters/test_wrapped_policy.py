"""A whole policy saved with its adapter in it: what is the policy's, what the adapter's, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.wrapped_policy import is_wrapped, read_wrapped
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.errors import BadInput

CONFIG = {"layer_type": "lora_msp", "r": 2, "alpha": 4, "num_experts": 3}
SOURCE = "model.trained.language.layers.0.attention.q_proj"


@pytest.fixture
def wrapped(files: Any, tmp_path: Path) -> dict[str, Tensor]:
    """The toy policy as the release saves it, its configuration already beside it."""
    (tmp_path / "train_config.json").write_text(json.dumps({"method": {"lora_cfg": CONFIG}}), encoding="utf-8")
    tensors: dict[str, Tensor] = {**files.tensors(), "model.norm.weight": torch.ones(3), "count": torch.tensor([5])}
    for source, path in files.modules.items():
        linear = files.linears[path]
        tensors |= {f"{source}.base.{name}": value.clone() for name, value in linear.state_dict().items()}
        tensors |= {
            f"{source}.router_weight_ma": torch.zeros(6, linear.in_features),
            f"{source}.router_logit_ma": torch.zeros(6),
            f"{source}.id_Sigma": torch.eye(6),
        }
    return tensors


def stored(tmp_path: Path, tensors: dict[str, Tensor]) -> StoredTensors:
    save_file(tensors, tmp_path / "model.safetensors")
    return StoredTensors.in_directory(tmp_path)


def test_the_plain_policy_is_there_under_its_plain_names(
    wrapped: dict[str, Tensor], files: Any, tmp_path: Path
) -> None:
    found = stored(tmp_path, wrapped)
    assert is_wrapped(found)
    policy = read_wrapped(found).policy
    assert policy is not None
    expected = {"model.norm.weight": torch.ones(3), "count": torch.tensor([5])}
    for source, path in files.modules.items():
        expected |= {f"{source}.{name}": value for name, value in files.linears[path].state_dict().items()}
    assert set(policy) == set(expected)
    for name, value in expected.items():
        assert torch.equal(policy.read(name), value)
        assert policy[name].shape == tuple(value.shape)
    assert policy["count"].dtype == "I64"
    assert policy.sha256() == found.sha256()


def test_the_adapter_is_what_its_own_file_would_hold(wrapped: dict[str, Tensor], files: Any, tmp_path: Path) -> None:
    adapter = read_wrapped(stored(tmp_path, wrapped))
    alone = read_lora_sp(files.write(files.tensors()))
    assert (adapter.form, set(adapter.updates)) == (alone.form, set(alone.updates))
    for source, update in adapter.updates.items():
        expected = alone.updates[source].branch
        assert update.branch is not None
        assert expected is not None
        assert all(torch.equal(getattr(update.branch, part), getattr(expected, part)) for part in ("A", "B", "router"))


def test_bookkeeping_is_left_out_with_its_reason(wrapped: dict[str, Tensor], files: Any, tmp_path: Path) -> None:
    ignored = read_wrapped(stored(tmp_path, wrapped)).ignored
    assert len(ignored) == 3 * len(files.modules)
    assert ignored[f"{SOURCE}.id_Sigma"] == "the identity matrix of a training loss"
    assert "moving average" in ignored[f"{SOURCE}.router_weight_ma"]


def test_an_unknown_tensor_beside_a_wrapped_linear_is_named(wrapped: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped[f"{SOURCE}.gain"] = torch.ones(3)
    with pytest.raises(BadInput, match=rf"unknown tensor {SOURCE}\.gain beside a wrapped linear \(lora_sp\)"):
        read_wrapped(stored(tmp_path, wrapped))


def test_a_wrapped_linear_without_its_router_is_named(wrapped: dict[str, Tensor], tmp_path: Path) -> None:
    del wrapped[f"{SOURCE}.router.weight"]
    with pytest.raises(BadInput, match=rf"{SOURCE}\.router\.weight missing"):
        read_wrapped(stored(tmp_path, wrapped))


def test_without_a_configuration_there_is_no_adapter(wrapped: dict[str, Tensor], tmp_path: Path) -> None:
    (tmp_path / "train_config.json").unlink()
    with pytest.raises(BadInput, match=r"adapters\.json or adapters\.yaml: the adapter's configuration is missing"):
        read_wrapped(stored(tmp_path, wrapped))


@pytest.mark.parametrize("names", [["a.base.weight"], ["a.A", "a.B"], ["base.weight", "A", "B"], []])
def test_other_policies_are_not_wrapped(names: list[str]) -> None:
    assert not is_wrapped(names)
