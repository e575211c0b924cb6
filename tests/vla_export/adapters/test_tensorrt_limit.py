"""Banks that TensorRT cannot sort."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vla_export.adapters.adapter import Branch
from vla_export.adapters.bank_cut import cut_bank
from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.tensorrt_limit import LARGEST_TOP_K, check_tensorrt
from vla_runtime.errors import BadInput


def model(bank: int) -> nn.Module:
    branch = Branch(torch.ones(bank, 2), torch.ones(3, bank), torch.ones(bank, 2), EnergyGating(bank, 0.9, "released"))
    module = nn.Module()
    module.layer = nn.Sequential(RoutedLinear(nn.Linear(2, 3), branch))
    return module


def test_the_largest_bank_that_fits_passes() -> None:
    check_tensorrt(model(LARGEST_TOP_K))


def test_a_larger_one_is_named() -> None:
    with pytest.raises(BadInput, match=r"layer\.0 sorts 3841 scores, and TensorRT at most 3840"):
        check_tensorrt(model(LARGEST_TOP_K + 1))


def test_a_larger_one_passes_once_it_is_cut() -> None:
    module = model(LARGEST_TOP_K + 1)
    module.layer[0] = cut_bank(module.layer[0], torch.arange(LARGEST_TOP_K + 1) < 40, 30)
    check_tensorrt(module)
