"""Weights in four bits: read and rounded by bitsandbytes where it is there, refused where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_export.adapters.adapter import LinearUpdate, LowRank
from vla_export.adapters.folding import fold
from vla_export.adapters.four_bit import FourBit, dequantised, find_four_bit, rounded
from vla_export.adapters.reading import read_adapter
from vla_runtime.errors import BadInput

CODES: tuple[Literal["fp4", "nf4"], ...] = ("fp4", "nf4")


def described(content: object) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def without_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)


def weight() -> Tensor:
    return torch.randn((32, 128), generator=torch.Generator().manual_seed(1))


def quantised(library: Any, code: str, compressed: bool) -> dict[str, Tensor]:
    """A base linear as the release's quantised layers save it."""
    linear = library.nn.Linear4bit(
        128, 32, bias=False, quant_type=code, compress_statistics=compressed, compute_dtype=torch.float32
    )
    linear.load_state_dict({"weight": weight()})
    return {f"proj.base.{name}": value for name, value in linear.to("cpu").state_dict().items()}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_stored_weight_is_what_bitsandbytes_rounded_it_to(
    code: Literal["fp4", "nf4"], compressed: bool, tmp_path: Path
) -> None:
    library = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed; it alone reads four bits")
    tensors = quantised(library, code, compressed)
    (name,) = found = find_four_bit(tensors, tensors.__getitem__)
    assert (name, found[name].shape, found[name].dtype) == ("proj.base.weight", (32, 128), "F32")
    exact = dequantised(found[name], tensors.__getitem__)
    packed, state = library.functional.quantize_4bit(weight(), quant_type=code, compress_statistics=compressed)
    assert torch.equal(exact, library.functional.dequantize_4bit(packed, state))
    assert torch.equal(rounded(weight(), FourBit(code=code, compressed=compressed)), exact)
    assert 0.01 < float((exact - weight()).norm() / weight().norm()) < 0.4

    A, B, router = torch.ones(2, 128), torch.ones(32, 2), torch.ones(2, 128)
    save_file({**tensors, "proj.A": A, "proj.B": B, "proj.router.weight": router}, tmp_path / "model.safetensors")
    config = {"layer_type": "lora_msp", "r": 2, "alpha": 2, "num_experts": 1, "quantize": True, "quant_type": code}
    (tmp_path / "adapters.json").write_text(json.dumps(config), encoding="utf-8")
    adapter = read_adapter(tmp_path)
    assert adapter.policy is not None
    assert set(adapter.policy) == {"proj.weight"}
    assert adapter.policy["proj.weight"].shape == (32, 128)
    assert torch.equal(adapter.policy.read("proj.weight"), exact)
    assert adapter.updates["proj"].four_bit is None, "what the file holds is rounded already"


def test_an_adapter_trained_on_four_bits_is_folded_into_the_rounded_weight() -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed; it alone rounds to four bits")
    how = FourBit(code="fp4", compressed=False)
    part = LowRank(torch.ones(1, 128), torch.ones(32, 1))
    torch.testing.assert_close(fold(weight(), LinearUpdate(fixed=(part,), four_bit=how)), rounded(weight(), how) + 1)


def test_without_bitsandbytes_a_stored_weight_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bitsandbytes(monkeypatch)
    state = described({"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [2, 2]})
    tensors = {"proj.weight": torch.ones(2), "proj.weight.quant_state.bitsandbytes__fp4": state}
    with pytest.raises(BadInput, match=r"proj\.weight .* in four bits, .* pip install 'vla-deploy\[qlora\]'"):
        find_four_bit(tensors, tensors.__getitem__)


def test_without_bitsandbytes_an_adapter_trained_on_four_bits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without_bitsandbytes(monkeypatch)
    with pytest.raises(BadInput, match=r"trained on weights in four bits, .* pip install 'vla-deploy\[qlora\]'"):
        rounded(weight(), FourBit(code="fp4", compressed=False))


@pytest.mark.parametrize("content", ["?", {"dtype": "float32"}, {"dtype": "int7", "shape": [2, 2]}])
def test_a_description_that_is_none_is_named(content: object) -> None:
    tensors = {"w": torch.ones(2), "w.quant_state.bitsandbytes__nf4": described(content)}
    with pytest.raises(BadInput, match=r"w\.quant_state\.bitsandbytes__nf4 does not describe"):
        find_four_bit(tensors, tensors.__getitem__)


def test_other_weights_are_not_touched() -> None:
    assert find_four_bit(["a.weight", "a.bias"], {}.__getitem__) == {}
