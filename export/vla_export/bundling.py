"""The prepared policy as a bundle: graphs, goldens, tokenizer, parity, report, manifest."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

import torch

from vla_export import provenance
from vla_export.actions import ActionEffect, compare_actions
from vla_export.graph.goldens import make_goldens
from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.quantisation import quantise
from vla_export.graph.summary import summarise
from vla_export.models.flow_model import FlowModel
from vla_export.preparation import PreparedPolicy
from vla_export.progress import Advance, StageProgress
from vla_export.prune.latency import LatencyReport
from vla_export.report.render import write_report
from vla_export.report.report import ExportReport, GraphFile, MeasuredOn, ParityReport
from vla_export.request import ExportRequest
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import GoldenSample, write_golden
from vla_runtime.bundle.manifest import Graphs, Manifest, Precision
from vla_runtime.bundle.parity import answer, measure
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines.engine import Engine
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import WorkFailed
from vla_runtime.profiling.machine import this_machine

GOLDEN_SAMPLES = 2
GOLDEN_FILE = "golden.safetensors"


@torch.no_grad()
def write_bundle(
    policy: PreparedPolicy, request: ExportRequest, progress: StageProgress
) -> tuple[Bundle, ExportReport]:
    """Write the bundle beside its place, prove it, and rename it there.

    The policy's weights are used up: converted to each precision in turn, and let go once the graphs hold them.

    Raises `WorkFailed` where ONNX Runtime does not compute what PyTorch did; then there is no bundle.
    """
    interface, held_out = policy.checkpoint.interface, policy.observations.held_out
    with progress.stage("reference actions"):
        goldens = make_goldens(policy.model, held_out[:GOLDEN_SAMPLES], interface.flow_steps, request.guided)
        answers = [torch.from_numpy(golden.chunk) for golden in goldens]
        answers += [sample_actions(policy.model, s, interface.flow_steps) for s in held_out[GOLDEN_SAMPLES:]]
    overall = compare_actions(policy.original, answers, interface.action)

    with BundleWriter(request.output) as writer:
        write_golden(writer.root / GOLDEN_FILE, goldens)
        (writer.root / interface.tokenizer.file).write_text(interface.tokenizer_definition, encoding="utf-8")
        latency = _latency_of_the_model(policy, progress)
        graphs = _graphs(policy, writer.root, progress, request.guided)
        _release(policy)
        latency = latency or _latency_of_the_graphs(policy, writer.root, graphs, progress)
        parity = []
        for precision in graphs:
            with progress.stage(f"parity of {precision} in ONNX Runtime"):
                draft = Bundle(writer.root, _manifest(policy, request, graphs, None, _no_digests(writer.root)))
                engine = OnnxRuntimeEngine(draft, precision, torch.get_num_threads(), optimise=precision != "fp16")
                parity.append(_parity(engine, precision, policy, goldens, answers))
                del engine
        report = _report(policy, overall, _sizes(writer.root, graphs), parity, latency)
        write_report(writer.root / "report", report)
        with progress.stage("digest"):
            bundle = writer.finish(lambda files: _manifest(policy, request, graphs, report, files))
    return bundle, report


def _graphs(policy: PreparedPolicy, root: Path, progress: StageProgress, guided: bool) -> dict[Precision, Graphs]:
    sample = policy.observations.held_out[0]
    graphs: dict[Precision, Graphs] = {}
    for precision in policy.precisions:
        with progress.stage(f"export {precision} graphs", 3 if guided else 2) as advance:
            if precision == "int8":
                graphs[precision] = _int8_graphs(policy.model, sample, root, graphs.get("fp32"), advance)
            else:
                graphs[precision] = export_graphs(policy.model, sample, root, precision, advance, guided)
    return graphs


def _int8_graphs(model: FlowModel, sample: Sample, root: Path, fp32: Graphs | None, progress: Advance) -> Graphs:
    """int8 graphs are made of the fp32 ones, which do not stay where the bundle was not to hold them."""
    graphs = quantise(export_graphs(model, sample, root) if fp32 is None else fp32, root, progress)
    if fp32 is None:
        for path in root.glob("*.onnx*"):
            path.unlink()
    return graphs


def _latency_of_the_model(policy: PreparedPolicy, progress: StageProgress) -> LatencyReport | None:
    """What pruning saves, from graphs of their own; None where nothing was pruned, or the bundle's serve as well."""
    stopwatch = policy.stopwatch
    if stopwatch is None or stopwatch.precision in policy.precisions:
        return None
    with progress.stage("latency before and after", stopwatch.steps) as advance:
        return stopwatch.compare_model(policy.model, advance)


def _latency_of_the_graphs(
    policy: PreparedPolicy, root: Path, graphs: dict[Precision, Graphs], progress: StageProgress
) -> LatencyReport | None:
    """What pruning saves, from the bundle's graphs; None where nothing was pruned."""
    stopwatch = policy.stopwatch
    if stopwatch is None:
        return None
    ours = graphs[stopwatch.precision]
    with progress.stage("latency before and after", stopwatch.steps) as advance:
        return stopwatch.compare(root / ours.encode, root / ours.denoise, advance)


def _release(policy: PreparedPolicy) -> None:
    """The model becomes an empty shell, whoever still holds it: ONNX Runtime and TensorRT need the memory."""
    policy.model.to("meta")
    gc.collect()


def _parity(
    engine: Engine,
    precision: Precision,
    policy: PreparedPolicy,
    goldens: Sequence[GoldenSample],
    reference: Sequence[torch.Tensor],
) -> ParityReport:
    """An engine against PyTorch's goldens, and against its ``reference`` chunks for all held-out samples.

    The goldens are of the first held-out samples.
    """
    interface = policy.checkpoint.interface
    found = [answer(engine, g.inputs, g.noise, interface.flow_steps, g.guided) for g in goldens]
    chunks = [each.chunk for each in found]
    for sample in policy.observations.held_out[len(goldens) :]:
        inputs = {name: tensor.numpy() for name, tensor in sample.observed.items()}
        chunks.append(answer(engine, inputs, sample.noise.numpy(), interface.flow_steps).chunk)
    parity = measure(engine.name, found, goldens)
    if not parity.passes(precision):
        raise WorkFailed(
            f"{parity.engine} does not compute what PyTorch did: relative error {parity.chunk:.2e} of the actions "
            f"(limit {CHUNK_ERROR[precision]:.0e}), worst prefix tensor {parity.prefix_worst} {parity.prefix:.2e}"
            f"{'' if parity.guided is None else f', steering {parity.guided:.2e}'}; no bundle was written"
        )
    return ParityReport(
        precision=precision,
        engine=parity.engine,
        samples=parity.samples,
        prefix=parity.prefix,
        step=parity.step,
        chunk=parity.chunk,
        guided=parity.guided,
        gate=CHUNK_ERROR[precision],
        effect=compare_actions(reference, [torch.from_numpy(chunk) for chunk in chunks], interface.action),
    )


def _sizes(root: Path, graphs: dict[Precision, Graphs]) -> list[GraphFile]:
    names = [file for g in graphs.values() for file in g.parts().values()]
    summaries = {name: summarise(root / name) for name in names}
    return [GraphFile(name=name, nodes=found.nodes, bytes=found.file_bytes) for name, found in summaries.items()]


def _report(
    policy: PreparedPolicy,
    overall: ActionEffect,
    sizes: Sequence[GraphFile],
    parity: Sequence[ParityReport],
    latency: LatencyReport | None,
) -> ExportReport:
    observations = policy.observations
    return ExportReport(
        checkpoint=policy.checkpoint.root.resolve().name,
        family=policy.checkpoint.family,
        versions=this_machine().packages,
        measured_on=MeasuredOn(
            source=observations.source,
            synthetic=observations.synthetic,
            calibration=len(observations.calibration),
            choosing=len(observations.choosing),
            held_out=len(observations.held_out),
        ),
        ignored_tensors=dict(policy.checkpoint.weights.ignored),
        merge=policy.merge,
        prune=policy.prune,
        latency=latency,
        overall=overall,
        graphs=tuple(sizes),
        parity=tuple(parity),
    )


def _manifest(
    policy: PreparedPolicy,
    request: ExportRequest,
    graphs: dict[Precision, Graphs],
    report: ExportReport | None,
    files: dict[str, str],
) -> Manifest:
    interface = policy.checkpoint.interface
    return Manifest(
        family=policy.checkpoint.family,
        cameras=interface.cameras,
        state=interface.state,
        action=interface.action,
        horizon=interface.horizon,
        rate=interface.rate,
        flow_steps=interface.flow_steps,
        tokenizer=interface.tokenizer,
        graphs=graphs,
        golden=GOLDEN_FILE,
        provenance=provenance.of(policy.checkpoint, request.adapter, report),
        files=files,
    )


def _no_digests(root: Path) -> dict[str, str]:
    """What is there already, undigested: enough to open an engine on, never written."""
    return {path.relative_to(root).as_posix(): "0" * 64 for path in root.rglob("*") if path.is_file()}
