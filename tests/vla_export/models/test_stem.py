from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import nn

from tests.toy_policy import toy_samples
from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.precision import half
from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.stem import ConvStem, GroupNorm, StemSize
from vla_export.sample import sample_actions

SIZE = StemSize(channels=(8,), width=16)
CONFIG = Pi0Config(
    vision=SIZE,
    language=StackSize(depth=2, width=24, mlp=32, heads=2, kv_heads=1, head_dim=8),
    expert=StackSize(depth=2, width=16, mlp=24, heads=2, kv_heads=1, head_dim=8),
    vocabulary=40,
    image_size=8,
    horizon=5,
    state_width=8,
    action_width=8,
)


@pytest.fixture
def model() -> Pi0:
    generator = torch.Generator().manual_seed(0)
    policy = Pi0(CONFIG).eval().requires_grad_(False)
    for parameter in policy.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
        parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    return policy


def test_an_image_becomes_tokens_of_its_stride() -> None:
    stem = ConvStem(StemSize(channels=(8, 16, 24), width=40), image_size=64)
    stem.position_embedding.data.zero_()
    assert stem(torch.zeros(2, 3, 64, 64)).shape == (2, 16, 40)


@torch.no_grad()
def test_tokens_lie_row_by_row_where_the_image_changes() -> None:
    stem = ConvStem(SIZE, image_size=16)
    stem.position_embedding.data.normal_()
    dark = torch.zeros(1, 3, 16, 16)
    lit = dark.clone()
    lit[:, :, 5, 10] = 1.0  # inside the patch of row 1, column 2 of four
    for layer in stem.layers:  # a norm would carry the change everywhere
        layer.norm = nn.Identity()
    changed = (stem(lit) - stem(dark)).abs().sum(2)[0]
    assert int(changed.argmax()) == 1 * 4 + 2
    assert int((changed > 0).sum()) <= 4


def test_group_norm_is_torchs_in_float32() -> None:
    ours, theirs = GroupNorm(2, 6), nn.GroupNorm(2, 6)
    for norm in (ours, theirs):
        norm.weight.data = torch.arange(6.0)
    x = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x))
    assert ours.half()(x.half()).dtype == torch.float32


def test_a_stem_has_no_stack_to_prune(model: Pi0) -> None:
    assert list(model.stacks()) == ["language", "expert"]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 2e-2)])
def test_onnx_runtime_computes_what_pytorch_computes(
    model: Pi0, tmp_path: Path, precision: str, tolerance: float
) -> None:
    sample = toy_samples(1)[0]
    prefix = model.encode(sample.observed)
    graphs = export_graphs(model, sample, tmp_path, precision)  # type: ignore[arg-type]  # one of the two
    session = onnxruntime.InferenceSession(str(tmp_path / graphs.encode))
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {n: t.numpy() for n, t in sample.observed.items()}), strict=True))
    for name in names[1:]:
        difference = torch.from_numpy(found[name]).float() - prefix[name]
        assert float(difference.norm() / prefix[name].norm()) < tolerance, name


@torch.no_grad()
def test_half_precision_keeps_the_norms_and_halves_the_convolutions(model: Pi0) -> None:
    sample = toy_samples(1)[0]
    exact = sample_actions(model, sample, 3)
    half(model)
    assert model.get_parameter("vision.layers.0.convolution.weight").dtype == torch.float16
    assert model.get_parameter("vision.layers.0.norm.weight").dtype == torch.float32
    assert float((sample_actions(model, sample, 3) - exact).norm() / exact.norm()) < 2e-2
