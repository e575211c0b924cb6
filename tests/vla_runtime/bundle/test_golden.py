"""Golden samples survive the file, in order and bit for bit."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vla_runtime.bundle.golden import GoldenSample, GuidedStep, read_golden, write_golden
from vla_runtime.errors import BadInput


def sample(seed: int) -> GoldenSample:
    rng = np.random.default_rng(seed)
    return GoldenSample(
        inputs={"images": rng.normal(size=(2, 3, 4, 4)).astype(np.float32), "tokens": np.arange(4, dtype=np.int32)},
        noise=rng.normal(size=(1, 3, 8)).astype(np.float32),
        prefix={"key_00": rng.normal(size=(1, 1, 5, 4)).astype(np.float32), "prefix_mask": np.array([[True, False]])},
        step=rng.normal(size=(1, 3, 8)).astype(np.float32).transpose(0, 2, 1),  # not contiguous
        chunk=rng.normal(size=(1, 3, 8)).astype(np.float32),
    )


def test_there_and_back(tmp_path: Path) -> None:
    written = [sample(seed) for seed in range(11)]
    write_golden(tmp_path / "golden.safetensors", written)
    read = read_golden(tmp_path / "golden.safetensors")
    assert len(read) == 11
    for one, other in zip(written, read, strict=True):
        for field in ("noise", "step", "chunk"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        for field in ("inputs", "prefix"):
            assert getattr(one, field).keys() == getattr(other, field).keys()
            for name, tensor in getattr(one, field).items():
                np.testing.assert_array_equal(getattr(other, field)[name], tensor, strict=True)


def test_tensor_names(tmp_path: Path) -> None:
    write_golden(tmp_path / "golden.safetensors", [sample(0)])
    assert set(load_file(tmp_path / "golden.safetensors")) == {
        "input/0/images", "input/0/tokens", "noise/0", "prefix/0/key_00", "prefix/0/prefix_mask", "step/0", "chunk/0",
    }  # fmt: skip


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "golden.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(BadInput, match="not a safetensors file"):
        read_golden(path)
    save_file({"other": np.zeros(1)}, path)
    with pytest.raises(BadInput, match="no golden sample"):
        read_golden(path)
    save_file({"chunk/0": np.zeros(1), "noise/0": np.zeros(1)}, path)
    with pytest.raises(BadInput, match="lacks the tensor step/0"):
        read_golden(path)


def test_a_steered_step_goes_along(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    step = GuidedStep(**{field.name: rng.normal(size=(1, 3, 8)) for field in fields(GuidedStep)})
    write_golden(tmp_path / "golden.safetensors", [replace(sample(0), guided=step), sample(1)])
    first, second = read_golden(tmp_path / "golden.safetensors")
    assert first.guided is not None
    for name, tensor in vars(step).items():
        np.testing.assert_array_equal(getattr(first.guided, name), tensor)
    assert second.guided is None


def test_half_a_steered_step_is_refused(tmp_path: Path) -> None:
    write_golden(tmp_path / "golden.safetensors", [sample(0)])
    tensors = load_file(tmp_path / "golden.safetensors")
    save_file(tensors | {"guided/0/chunk": tensors["chunk/0"]}, tmp_path / "golden.safetensors")
    with pytest.raises(BadInput, match="lacks the tensor time"):
        read_golden(tmp_path / "golden.safetensors")
