"""A policy's graphs as ONNX: encode once per observation, denoise (or its steered form) once per flow step."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.func import functional_call

from vla_export.graph.guided_step import trace_guided
from vla_export.graph.onnx_cleaning import clean
from vla_export.graph.precision import half
from vla_export.graph.weight_files import read_as_stored, store_weights
from vla_export.models.flow_model import FlowModel
from vla_export.progress import Advance
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Graphs, Precision
from vla_runtime.errors import WorkFailed

OPSET = 18
_STEPPED = ("next_chunk",)


@torch.no_grad()
def export_graphs(
    model: FlowModel,
    sample: Sample,
    directory: Path,
    precision: Precision = "fp32",
    progress: Advance | None = None,
    guided: bool = False,
) -> Graphs:
    """Write ``encode.onnx`` and ``denoise.onnx``, each with its weights beside it in a ``.data``.

    With ``guided`` also ``guided.onnx``, the steered flow step. What several graphs hold lies with the first of them.
    Tensors are those of `vla_runtime.bundle.manifest.Manifest`; shapes are static and those of ``sample``. fp32 graphs,
    of a float32 model, lie in ``directory``. fp16 graphs lie in its ``fp16/``; the model is turned to half precision
    for them, in place (see `vla_export.graph.precision.half`), where it is not yet. There, keys and values of the
    prefix are float16 and every other tensor keeps its type. The same weights give the same bytes.

    ``progress`` is called after each graph. Raises `WorkFailed` for a model that cannot be exported.
    Returns the graphs' paths relative to ``directory``.
    """
    folder = "" if precision == "fp32" else f"{precision}/"
    graphs = Graphs(
        encode=f"{folder}encode.onnx",
        denoise=f"{folder}denoise.onnx",
        guided=f"{folder}guided.onnx" if guided else None,
    )
    (directory / graphs.encode).parent.mkdir(parents=True, exist_ok=True)
    if precision == "fp16":
        half(model)
    observed, noise = dict(sample.observed), sample.noise
    prefix = _prefix(model, observed)
    step = {"chunk": noise, "time": noise.new_tensor([1.0]), "next_time": noise.new_tensor([0.9])}
    stored: dict[str, ir.ExternalTensor] = {}

    def write(part: _Part, graph: str) -> None:
        stored.update(_export(part, directory / graph, stored))
        if progress is not None:
            progress()

    write(_Part(_Encode(model, tuple(observed)), observed, tuple(prefix)), graphs.encode)
    write(_Part(_Denoise(model, tuple(prefix)), step | prefix, _STEPPED), graphs.denoise)
    if graphs.guided is not None:
        # no two of them the same tensor, or the tracer would make one input of both
        towards = {
            "previous": torch.zeros_like(noise),
            "weights": noise.new_zeros(1, noise.shape[1], 1),
            "beta": noise.new_tensor([1.0]),
        }
        inputs = step | towards | prefix
        write(_Part(_traced(model, inputs), inputs, _STEPPED), graphs.guided)
    return graphs


@dataclass(frozen=True)
class _Part:
    """A module with the names and example values of its inputs, and the names of its outputs, in order."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: Sequence[str]


class _Encode(nn.Module):
    def __init__(self, model: FlowModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, *observed: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(dict(zip(self.names, observed, strict=True))).values())


class _Denoise(nn.Module):
    def __init__(self, model: FlowModel, prefix_names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.prefix_names = model, tuple(prefix_names)

    def forward(self, chunk: Tensor, time: Tensor, next_time: Tensor, *prefix: Tensor) -> Tensor:
        return self.model.denoise(chunk, time, next_time, dict(zip(self.prefix_names, prefix, strict=True)))


class _Prefix(nn.Module):
    def __init__(self, model: FlowModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.model.encode(observed)


def _traced(model: FlowModel, inputs: Mapping[str, Tensor]) -> nn.Module:
    try:
        return trace_guided(model, inputs)
    except RuntimeError as error:
        raise WorkFailed(f"guided cannot be exported to ONNX: {_first_line(error)}") from error


def _prefix(model: FlowModel, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Zeros with the names, shapes and types of what encode gives; found on the meta device, where nothing computes."""
    module = _Prefix(model)
    held = dict(module.named_parameters()) | dict(module.named_buffers())
    weights = {name: tensor.to("meta") for name, tensor in held.items()}
    try:
        prefix = functional_call(module, weights, ({name: tensor.to("meta") for name, tensor in observed.items()},))
    except RuntimeError as error:
        raise WorkFailed(f"encode cannot be exported to ONNX: {_first_line(error)}") from error
    return {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in prefix.items()}


def _export(part: _Part, path: Path, stored: Mapping[str, ir.ExternalTensor]) -> dict[str, ir.ExternalTensor]:
    """Write one graph, and its weights but for those that ``stored`` holds already; returns what it wrote of them."""
    names = tuple(part.inputs)
    try:
        with _quiet():
            program = torch.onnx.export(
                part.module.eval(),
                tuple(part.inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=names,
                output_names=part.outputs,
                optimize=False,  # it would hold every transposed weight in memory: clean() does it one at a time
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise WorkFailed(f"{path.stem} cannot be exported to ONNX: {_first_line(error)}") from error
    assert program is not None
    clean(program.model)
    _check_names(path, "input", names, [value.name for value in program.model.graph.inputs])
    _check_names(path, "output", part.outputs, [value.name for value in program.model.graph.outputs])
    read_as_stored(program.model.graph, stored)
    written = store_weights(program.model.graph, path.parent, f"{path.name}.data", stored)
    ir.save(program.model, path)
    _check_file(path)
    return written


def _check_names(path: Path, what: str, expected: Sequence[str], found: Sequence[str | None]) -> None:
    if list(expected) != list(found):
        odd = sorted(set(expected).symmetric_difference(str(name) for name in found)) or ["their order"]
        raise WorkFailed(f"{path.stem}: the exported {what}s are not the manifest's; they differ in {', '.join(odd)}")


def _check_file(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise WorkFailed(f"{path.name} is not valid ONNX: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides (torchvision is absent, a class is renamed) off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
