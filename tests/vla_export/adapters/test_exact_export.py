"""An exact merge, exported and run in ONNX Runtime, against the base policy with its adapter beside it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from tests.unmerged import beside, lora_sp_update, mixture_update
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.exact_merge import merge_exact
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.pi0 import Pi0
from vla_export.sample import Sample, sample_actions


def small_policy() -> Pi0:
    """The toy policy with one layer of each stack, which is what takes time to export."""
    model = toy_policy()
    for stack in model.stacks().values():
        stack.layers = stack.layers[:1]
    return model


@pytest.fixture
def policy() -> Pi0:
    return small_policy()


def in_onnx_runtime(directory: Path, sample: Sample) -> Tensor:
    encode, denoise = (onnxruntime.InferenceSession(str(directory / f"{part}.onnx")) for part in ("encode", "denoise"))
    names = [output.name for output in encode.get_outputs()]
    inputs = {name: tensor.numpy() for name, tensor in sample.observed.items()}
    prefix = dict(zip(names, encode.run(None, inputs), strict=True))
    chunk = sample.noise.numpy()
    for step in range(FLOW_STEPS):
        time, next_time = (np.array([1 - n / FLOW_STEPS], dtype=np.float32) for n in (step, step + 1))
        (chunk,) = denoise.run(None, {"chunk": chunk, "time": time, "next_time": next_time, **prefix})
    return torch.from_numpy(chunk)


def mixture_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Three experts of two directions, from a bank of six."""
    found = {}
    for name, tensor in tensors.items():
        part = name.rpartition(".")[2]
        if part == "A":
            found[name] = tensor.reshape(3, 2, -1)
        elif part == "B":
            found[name] = tensor.reshape(-1, 3, 2).permute(1, 0, 2).contiguous()
        else:
            found[name] = tensor[:3].contiguous()
    return found


@pytest.mark.parametrize("method", ["lora_sp", "lora_sp cut", "lora_moe"])
def test_is_the_unmerged_policy_to_rounding(files: Any, tmp_path: Path, method: str) -> None:
    samples = toy_samples(3)
    if method == "lora_moe":
        tensors = mixture_tensors(files.tensors())
        config = {"method": "lora_moe", "r": 2, "alpha": 4.0, "num_experts": 3, "routing": "top2"}
        update: Any = partial(mixture_update, scale=2.0)
    else:
        tensors = files.tensors()
        config = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3, "threshold": 0.6}
        update = partial(lora_sp_update, scale=2.0, threshold=0.6)
    adapter: Adapter = read_lora_sp(files.write(tensors, config))
    unmerged = small_policy()
    plain = torch.cat([sample_actions(unmerged, sample, FLOW_STEPS) for sample in samples])
    with beside(unmerged, files.modules, tensors, update):
        expected = torch.cat([sample_actions(unmerged, sample, FLOW_STEPS) for sample in samples])

    calibration = samples if method == "lora_sp cut" else []
    model = small_policy()
    merge_exact(model, adapter, files.modules, samples, FLOW_STEPS, ACTION, calibration)
    export_graphs(model, samples[0], tmp_path)
    found = torch.cat([in_onnx_runtime(tmp_path, sample) for sample in samples])

    assert float((found - expected).norm() / expected.norm()) <= 1e-5
    assert float((expected - plain).norm() / plain.norm()) > 1e-2
