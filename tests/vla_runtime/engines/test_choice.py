"""Which engine is taken, that the reason is told, and that a named one is never replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import onnxruntime
import pytest

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines import tensorrt
from vla_runtime.engines.choice import onnxruntime_precision, open_engine, tensorrt_precision
from vla_runtime.errors import BadInput


class FakeTensorRT:
    def __init__(self, bundle: Bundle, precision: str) -> None:
        self.name = f"tensorrt GPU {precision}"


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "can_run", lambda: "there is no GPU")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "can_run", lambda: None)
    monkeypatch.setattr(tensorrt, "TensorRTEngine", FakeTensorRT)


@pytest.mark.usefixtures("no_gpu")
def test_auto_says_why_tensorrt_was_not_taken(toy_bundle: Callable[..., Bundle]) -> None:
    engine, why = open_engine(toy_bundle())
    assert engine.name == "onnxruntime CPU fp32"
    assert why == "onnxruntime CPU fp32: TensorRT was not taken: there is no GPU"


@pytest.mark.usefixtures("no_gpu")
def test_tensorrt_by_name_is_an_error_where_it_cannot_run(toy_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(BadInput, match="there is no GPU"):
        open_engine(toy_bundle(), "tensorrt")


@pytest.mark.usefixtures("with_gpu")
def test_auto_takes_tensorrt_in_the_smallest_precision(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(precisions=("fp32", "fp16"))
    assert tensorrt_precision(bundle) == "fp16"
    assert open_engine(bundle)[0].name == "tensorrt GPU fp16"
    assert open_engine(bundle, "tensorrt", "fp32")[0].name == "tensorrt GPU fp32"
    assert open_engine(toy_bundle("single"))[0].name == "tensorrt GPU fp32"


@pytest.mark.usefixtures("with_gpu")
def test_onnxruntime_by_name_is_onnxruntime(toy_bundle: Callable[..., Bundle]) -> None:
    engine, why = open_engine(toy_bundle(precisions=("fp32", "fp16")), "onnxruntime", "fp16")
    assert engine.name == "onnxruntime CPU fp16"
    assert why == "onnxruntime CPU fp16: as asked"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("precisions", "taken"),
    [(("fp16", "int8", "fp32"), "fp32"), (("fp16", "int8"), "int8"), (("fp16",), "fp16"), (("int8",), "int8")],
)
def test_a_cpu_takes_float32_where_it_is_and_else_what_was_made_for_it(
    toy_bundle: Callable[..., Bundle], precisions: tuple[Precision, ...], taken: str
) -> None:
    bundle = toy_bundle(precisions=precisions)
    assert onnxruntime_precision(bundle) == taken
    assert open_engine(bundle)[0].name == f"onnxruntime CPU {taken}"


@pytest.mark.usefixtures("with_gpu")
def test_int8_graphs_are_not_for_tensorrt(toy_bundle: Callable[..., Bundle]) -> None:
    bundle = toy_bundle(precisions=("int8",))
    assert open_engine(bundle)[1] == "onnxruntime CPU int8: TensorRT was not taken: it does not run int8 graphs"
    with pytest.raises(BadInput, match="has int8 graphs only; TensorRT runs fp16, fp32"):
        open_engine(bundle, "tensorrt")
    both = toy_bundle("both", precisions=("int8", "fp16"))
    assert open_engine(both, precision="int8")[0].name == "onnxruntime CPU int8"
    assert open_engine(both)[0].name == "tensorrt GPU fp16"


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.usefixtures("no_gpu")
def test_a_cuda_provider_that_does_not_load_is_told(
    toy_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: installed)
    engine, why = open_engine(toy_bundle())
    assert engine.name == "onnxruntime CPU fp32"
    assert why.endswith("; its CUDA provider is installed but did not load")


def test_an_unknown_engine_names_the_known_ones(toy_bundle: Callable[..., Bundle]) -> None:
    with pytest.raises(BadInput, match=r"'cuda' is unknown.*auto, onnxruntime, tensorrt"):
        open_engine(toy_bundle(), "cuda")


def test_the_robot_side_imports_no_heavy_library() -> None:
    program = (
        "import sys, vla_runtime.engines.choice, vla_runtime.engines.torch, vla_runtime.policy.policy, "
        "vla_runtime.bundle.cli, vla_runtime.profiling.cli, vla_runtime.profiling.doctor; "
        "print({'torch', 'rclpy', 'tensorrt', 'tensorrt_rtx', 'onnx'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert answer.stdout == "set()\n"
