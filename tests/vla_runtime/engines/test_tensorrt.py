"""The engine's own part of the work, on a GPU and a TensorRT that are not there."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest

from tests.vla_runtime.engines import fake_tensorrt as fake
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.parity import compare
from vla_runtime.engines import cache, cuda, tensorrt_build
from vla_runtime.engines.tensorrt import TensorRTEngine, available, build, can_run
from vla_runtime.errors import BadInput, WorkFailed

NO_GPU = "no CUDA GPU is visible"


def installed(monkeypatch, gpu: str | None = None, **versions: str) -> None:
    """Let this machine have these libraries and no others, and this reason for having no GPU."""

    def imported(name: str) -> tensorrt_build.Library | None:
        return tensorrt_build.Library(name, fake.module(versions[name])) if name in versions else None

    monkeypatch.setattr(tensorrt_build, "_imported", imported)
    monkeypatch.setattr(cuda, "missing", lambda: gpu)
    monkeypatch.setattr(cuda, "Driver", fake.Driver)


@pytest.fixture
def bundle(toy_bundle, tmp_path, monkeypatch):
    """A toy bundle on a machine that has a GPU and TensorRT 10.3."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    installed(monkeypatch, tensorrt="10.3.0")
    return toy_bundle()


@pytest.fixture
def golden(bundle):
    return read_golden(bundle.path("golden.safetensors"))[0]


def test_it_computes_what_the_bundle_says(bundle):
    found = compare(TensorRTEngine(bundle), read_golden(bundle.path("golden.safetensors")), bundle.manifest.flow_steps)
    assert found.passes("fp32"), found
    assert found.engine == "TensorRT 10.3.0 Fake GPU fp32"


def test_a_flow_step_moves_the_chunk_and_its_times_alone(bundle, golden):
    engine = TensorRTEngine(bundle)
    prefix = engine.encode(golden.inputs)
    fake.Driver.last.calls.clear()
    engine.denoise(golden.noise, 1.0, 0.8, prefix)
    assert fake.Driver.last.calls == ["activate", *["upload"] * 3, "execute", "download", "synchronise"]


def test_a_guided_step_moves_what_it_is_steered_by_too(toy_bundle, bundle):
    steering = toy_bundle("steering", guided=True)
    samples = read_golden(steering.path("golden.safetensors"))
    engine = TensorRTEngine(steering)
    assert engine.can_guide
    found = compare(engine, samples, steering.manifest.flow_steps)
    assert found.passes("fp32")
    assert found.guided is not None
    prefix = engine.encode(samples[0].inputs)
    fake.Driver.last.calls.clear()
    step = samples[0].guided
    engine.guided(step.chunk, 0.1, 0.05, prefix, step.previous, step.weights, 5.0)
    assert fake.Driver.last.calls == ["activate", *["upload"] * 6, "execute", "download", "synchronise"]
    with pytest.raises(BadInput, match=r"weights has the shape \[1, 16\], the policy takes FLOAT \[1, 16, 1\]"):
        engine.guided(step.chunk, 0.1, 0.05, prefix, step.previous, step.weights[..., 0], 5.0)


def test_without_a_guided_graph_it_cannot_guide(bundle, golden):
    engine = TensorRTEngine(bundle)
    assert not engine.can_guide
    prefix = engine.encode(golden.inputs)
    weights = np.ones((1, 16, 1), np.float32)
    with pytest.raises(BadInput, match="has no guided graph: export the bundle with --rtc"):
        engine.guided(golden.noise, 1.0, 0.8, prefix, golden.noise, weights, 5.0)


def test_the_guided_plan_is_built_and_kept_like_the_others(toy_bundle, bundle):
    steering = toy_bundle("steering", guided=True)
    progress = []
    plans = build(steering, "fp32", lambda: progress.append(1))
    assert [plan.name.split(".")[0] for plan in plans] == ["encode", "denoise", "guided"]
    assert len(progress) == 3
    assert build(steering, "fp32") == plans


def test_encode_brings_nothing_back(bundle, golden):
    engine = TensorRTEngine(bundle)
    fake.Driver.last.calls.clear()
    engine.encode(golden.inputs)
    assert fake.Driver.last.calls == ["activate", *["upload"] * 4, "execute", "synchronise"]


def test_values_are_converted_to_what_the_graph_takes(bundle, golden):
    engine = TensorRTEngine(bundle)
    wide = {
        name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in golden.inputs.items()
    }
    wide["images"] = np.asfortranarray(wide["images"])
    found = engine.prefix_arrays(engine.encode(golden.inputs | wide))
    for name, value in golden.prefix.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_a_prefix_is_refused_once_another_was_encoded(bundle, golden):
    engine = TensorRTEngine(bundle)
    old = engine.encode(golden.inputs)
    new = engine.encode(golden.inputs)
    with pytest.raises(WorkFailed, match="this prefix is gone"):
        engine.denoise(golden.noise, 1.0, 0.8, old)
    with pytest.raises(WorkFailed, match="this prefix is gone"):
        engine.prefix_arrays(old)
    assert engine.denoise(golden.noise, 1.0, 0.8, new).shape == golden.noise.shape


def test_after_a_failed_encode_the_old_prefix_is_gone_too(bundle, golden, monkeypatch):
    engine = TensorRTEngine(bundle)
    old = engine.encode(golden.inputs)
    monkeypatch.setattr(fake.Context, "fails", True)
    with pytest.raises(WorkFailed, match="inference failed"):
        engine.encode(golden.inputs)
    monkeypatch.setattr(fake.Context, "fails", False)
    with pytest.raises(WorkFailed, match="this prefix is gone"):
        engine.denoise(golden.noise, 1.0, 0.8, old)


def test_a_wrong_shape_never_reaches_the_device(bundle, golden):
    engine = TensorRTEngine(bundle)
    prefix = engine.encode(golden.inputs)
    fake.Driver.last.calls.clear()
    with pytest.raises(BadInput, match=r"chunk has the shape \[1, 15, 8\], the policy takes FLOAT \[1, 16, 8\]"):
        engine.denoise(golden.noise[:, :15], 1.0, 0.8, prefix)
    assert fake.Driver.last.calls == []


def test_device_memory_is_given_back(bundle):
    engine = TensorRTEngine(bundle)
    calls = fake.Driver.last.calls
    del engine
    gc.collect()
    assert calls[-4:] == ["activate", "synchronise", "free 0", "delete stream 7"]


def test_a_plan_that_cannot_be_loaded_is_named(bundle):
    plan = build(bundle, "fp32")[0]
    key = cache.plan_key(bundle, "encode.onnx", "fp32", "Fake GPU (8.7)", "tensorrt 10.3.0")
    cache.store(plan, key, b"damaged")
    with pytest.raises(WorkFailed, match="magic tag does not match; delete it"):
        TensorRTEngine(bundle)


def test_the_plan_belongs_to_the_gpu_and_the_version(bundle, monkeypatch):
    first = build(bundle, "fp32")
    assert build(bundle, "fp32") == first
    installed(monkeypatch, tensorrt="10.4.0")
    second = build(bundle, "fp32")
    monkeypatch.setattr(cuda, "Driver", lambda: OtherGpu())
    third = build(bundle, "fp32")
    assert len({*first, *second, *third}) == 6


class OtherGpu(fake.Driver):
    def __init__(self) -> None:
        super().__init__()
        self.device_name = "Another GPU"


def test_a_precision_the_bundle_lacks_is_named(bundle):
    with pytest.raises(BadInput, match="has no fp16 graphs, it has fp32"):
        TensorRTEngine(bundle, "fp16")


def test_int8_is_refused_by_name_even_where_the_bundle_has_it(bundle, toy_bundle):
    with pytest.raises(BadInput, match="TensorRT builds no int8 engines"):
        TensorRTEngine(toy_bundle("quantised", precisions=("fp32", "int8")), "int8")


@pytest.mark.parametrize(
    ("versions", "gpu", "builds", "runs"),
    [
        ({"tensorrt": "10.3.0"}, None, None, None),
        ({"tensorrt": "11.4.1", "tensorrt_rtx": "1.7.1"}, None, None, None),
        ({"tensorrt_rtx": "1.7.1"}, None, None, None),
        ({"tensorrt_rtx": "1.7.1"}, NO_GPU, None, f"TensorRT-RTX 1.7.1 is installed but {NO_GPU}"),
        (
            {"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1"},
            NO_GPU,
            None,
            f"TensorRT-RTX 1.7.1 is installed but {NO_GPU}",
        ),
        ({"tensorrt": "10.3.0"}, NO_GPU, "TensorRT 10.3.0 is installed but builds only on a GPU, and " + NO_GPU, ...),
        ({"tensorrt": "8.5.2"}, None, "TensorRT 8.5.2 is installed but cannot build strongly typed", ...),
        ({}, None, "neither TensorRT nor TensorRT-RTX is installed", ...),
        ({}, NO_GPU, "neither TensorRT nor TensorRT-RTX is installed", ...),
    ],
)
def test_what_this_machine_can_do_is_said_in_words(versions, gpu, builds, runs, monkeypatch):
    installed(monkeypatch, gpu, **versions)
    for found, expected in ((available(), builds), (can_run(), builds if runs is ... else runs)):
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found.startswith(expected)


@pytest.mark.parametrize(
    ("versions", "gpu", "chosen"),
    [
        ({"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1"}, None, "tensorrt"),
        ({"tensorrt": "10.3.0", "tensorrt_rtx": "1.7.1"}, NO_GPU, "tensorrt_rtx"),
        ({"tensorrt": "8.5.2", "tensorrt_rtx": "1.7.1"}, None, "tensorrt_rtx"),
    ],
)
def test_tensorrt_comes_first_where_it_can_build(versions, gpu, chosen, monkeypatch):
    installed(monkeypatch, gpu, **versions)
    library = tensorrt_build.find_library()
    assert isinstance(library, tensorrt_build.Library)
    assert library.name == chosen


def test_nothing_is_built_or_loaded_where_nothing_is_installed(toy_bundle, monkeypatch):
    installed(monkeypatch)
    with pytest.raises(WorkFailed, match="neither"):
        build(toy_bundle(), "fp32")
    with pytest.raises(WorkFailed, match="neither"):
        TensorRTEngine(toy_bundle("other"))


def test_importing_it_loads_no_tensorrt():
    code = "import sys, vla_runtime.engines.tensorrt; print([m for m in sys.modules if m.startswith('tensorrt')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
