"""Parity measures what differs, where it matters, and NaN never passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.parity import Parity, compare, relative_error
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine


class Disturbed(OnnxRuntimeEngine):
    """ONNX Runtime with a fault built in."""

    def __init__(self, bundle: Bundle, where: str) -> None:
        super().__init__(bundle, threads=1)
        self.where = where

    def prefix_arrays(self, prefix: Any) -> dict[str, NDArray[Any]]:
        arrays = {name: array.copy() for name, array in super().prefix_arrays(prefix).items()}
        masked = ~arrays["prefix_mask"][0]
        if self.where == "masked positions":
            arrays["key_00"][:, :, masked] = np.nan
        elif self.where == "keys":
            arrays["key_00"] *= 1.25
        elif self.where == "missing":
            del arrays["value_00"]
        elif self.where == "mask":
            arrays["prefix_mask"][0, 0] = False
        return arrays

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Any) -> NDArray[np.float32]:
        next_chunk = super().denoise(chunk, time, next_time, prefix)
        if self.where == "first step" and time == 1:
            return next_chunk * np.float32(1.5)
        if self.where == "last step" and abs(next_time) < 1e-6:
            return next_chunk * np.float32(1.5)
        if self.where == "nan":
            return np.where(np.arange(next_chunk.size).reshape(next_chunk.shape) == 3, np.nan, next_chunk)
        return next_chunk

    def guided(self, chunk: NDArray[np.float32], time: float, *others: Any) -> NDArray[np.float32]:
        next_chunk = super().guided(chunk, time, *others)
        return next_chunk * np.float32(1.01) if self.where == "steering" else next_chunk


@pytest.fixture
def measure(toy_bundle: Callable[..., Bundle]) -> Callable[[str], Parity]:
    bundle = toy_bundle()
    samples = read_golden(bundle.path("golden.safetensors"))
    return lambda where: compare(Disturbed(bundle, where), samples, bundle.manifest.flow_steps)


def test_the_same_arithmetic_passes(measure: Callable[[str], Parity]) -> None:
    parity = measure("nowhere")
    assert parity.passes("fp32")
    assert parity.samples == 2
    assert max(parity.prefix, parity.step, parity.chunk) < 1e-6


def test_masked_positions_do_not_count(measure: Callable[[str], Parity]) -> None:
    assert measure("masked positions") == measure("nowhere")


def test_the_worst_tensor_is_named(measure: Callable[[str], Parity]) -> None:
    parity = measure("keys")
    assert parity.prefix_worst == "key_00"
    assert parity.prefix == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(("where", "name"), [("missing", "value_00"), ("mask", "prefix_mask")])
def test_a_missing_tensor_or_another_mask_is_infinitely_wrong(
    measure: Callable[[str], Parity], where: str, name: str
) -> None:
    parity = measure(where)
    assert (parity.prefix, parity.prefix_worst) == (math.inf, name)
    assert not parity.passes("fp16")


def test_a_wrong_last_step_is_measured_exactly(measure: Callable[[str], Parity]) -> None:
    parity = measure("last step")
    assert parity.chunk == pytest.approx(0.5, rel=1e-4)
    assert parity.step < 1e-6
    assert not parity.passes("fp16")


def test_a_wrong_first_step_is_seen_even_where_the_flow_corrects_it(measure: Callable[[str], Parity]) -> None:
    assert measure("first step").step == pytest.approx(0.5, rel=1e-4)


def test_nan_never_passes(measure: Callable[[str], Parity]) -> None:
    parity = measure("nan")
    assert math.isnan(parity.chunk)
    assert not parity.passes("fp16")


@pytest.mark.parametrize("precision", CHUNK_ERROR)
def test_the_gate_is_where_gates_says(precision: Any) -> None:
    def parity(chunk: float) -> Parity:
        return Parity("engine", 1, prefix=0, prefix_worst="key_00", step=0, chunk=chunk)

    assert parity(CHUNK_ERROR[precision]).passes(precision)
    assert not parity(CHUNK_ERROR[precision] * 1.01).passes(precision)


def test_steering_is_measured_by_what_it_changes(toy_bundle: Callable[..., Bundle]) -> None:
    """A hundredth of the chunk is a larger share of the pull, and beyond the gate that the chunk itself passes."""
    bundle = toy_bundle(guided=True)
    samples = read_golden(bundle.path("golden.safetensors"))
    good, bad = (compare(Disturbed(bundle, where), samples, 5) for where in ("nowhere", "steering"))
    assert good.guided is not None
    assert bad.guided is not None
    assert good.guided < 1e-5
    assert good.passes("fp32")
    steps = [sample.guided for sample in samples if sample.guided is not None]
    expected = [0.01 * np.linalg.norm(s.next_chunk) / np.linalg.norm(s.next_chunk - s.free) for s in steps]
    assert bad.guided == pytest.approx(max(expected), rel=1e-3)
    assert bad.guided > 0.02 > 0.01
    assert not bad.passes("fp16")
    assert replace(bad, guided=None).passes("fp16")
    assert not replace(good, guided=math.nan).passes("fp16")


def test_an_engine_that_cannot_steer_is_measured_without(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(guided=True)
    samples = read_golden(bundle.path("golden.safetensors"))
    plain = toy_bundle("plain")
    found = compare(OnnxRuntimeEngine(plain, threads=1), samples, 5)
    assert found.guided is None
    assert found.passes("fp32")


def test_relative_error() -> None:
    assert relative_error(np.array([3.0, 4.0]), np.array([0.0, 4.0])) == pytest.approx(0.75)
    assert relative_error(np.zeros(2), np.zeros(2)) == 0
    assert relative_error(np.ones(2), np.zeros(2)) == math.inf
    assert relative_error(np.ones(2), np.ones(3)) == math.inf
    assert math.isnan(relative_error(np.array([np.nan]), np.ones(1)))
