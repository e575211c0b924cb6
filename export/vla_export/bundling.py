"""The prepared policy as a bundle: graphs, goldens, tokenizer, parity, report, manifest."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from vla_export import provenance
from vla_export.actions import ActionEffect, compare_actions
from vla_export.graph.goldens import make_goldens
from vla_export.graph.onnx_export import export_graphs
from vla_export.graph.summary import summarise
from vla_export.preparation import PreparedPolicy
from vla_export.progress import StageProgress
from vla_export.report.render import write_report
from vla_export.report.report import ExportReport, GraphFile, MeasuredOn, ParityReport
from vla_export.request import ExportRequest
from vla_export.sample import Sample, sample_actions
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import GoldenSample, write_golden
from vla_runtime.bundle.manifest import Graphs, Manifest, Precision
from vla_runtime.bundle.parity import compare
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.engines.engine import Engine
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import WorkFailed
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.machine import this_machine
from vla_runtime.profiling.spans import Spans

GOLDEN_SAMPLES = 2
GOLDEN_FILE = "golden.safetensors"


@torch.no_grad()
def write_bundle(
    policy: PreparedPolicy, request: ExportRequest, progress: StageProgress
) -> tuple[Bundle, ExportReport]:
    """Write the bundle beside its place, prove it, and rename it there.

    Raises `WorkFailed` where ONNX Runtime does not compute what PyTorch did; then there is no bundle.
    """
    interface, held_out = policy.checkpoint.interface, policy.observations.held_out
    answers = [sample_actions(policy.model, sample, interface.flow_steps) for sample in held_out]
    overall = compare_actions(policy.original, answers, interface.action)
    goldens = make_goldens(policy.model, held_out[:GOLDEN_SAMPLES], interface.flow_steps)

    with BundleWriter(request.output) as writer:
        write_golden(writer.root / GOLDEN_FILE, goldens)
        shutil.copyfile(interface.tokenizer_path, writer.root / interface.tokenizer.file)
        graphs = _graphs(policy, request, writer.root, progress)
        parity = []
        for precision in graphs:
            with progress.stage(f"parity of {precision} in ONNX Runtime"):
                draft = Bundle(writer.root, _manifest(policy, request, graphs, None, _no_digests(writer.root)))
                engine = OnnxRuntimeEngine(draft, precision)
                effect = compare_actions(answers, _answers(engine, held_out, interface.flow_steps), interface.action)
                parity.append(_parity(engine, precision, goldens, interface.flow_steps, effect))
                del engine
        report = _report(policy, overall, _sizes(writer.root, graphs), parity)
        write_report(writer.root / "report", report)
        bundle = writer.finish(lambda files: _manifest(policy, request, graphs, report, files))
    return bundle, report


def _graphs(
    policy: PreparedPolicy, request: ExportRequest, root: Path, progress: StageProgress
) -> dict[Precision, Graphs]:
    sample = policy.observations.held_out[0]
    wanted: list[Precision] = ["fp32"]
    if request.trt is not None and request.trt not in wanted:
        wanted.append(request.trt)
    graphs: dict[Precision, Graphs] = {}
    for precision in wanted:
        with progress.stage(f"export {precision} graphs", 2) as advance:
            graphs[precision] = export_graphs(policy.model, sample, root, precision, advance)
    return graphs


def _answers(engine: Engine, samples: Sequence[Sample], flow_steps: int) -> list[torch.Tensor]:
    answers = []
    for sample in samples:
        prefix = engine.encode({name: tensor.numpy() for name, tensor in sample.observed.items()})
        *_, chunk = euler_steps(engine, prefix, sample.noise.numpy(), flow_steps, Spans())
        answers.append(torch.from_numpy(chunk))
    return answers


def _parity(
    engine: Engine, precision: Precision, goldens: Sequence[GoldenSample], flow_steps: int, effect: ActionEffect
) -> ParityReport:
    found = compare(engine, goldens, flow_steps)
    if not found.passes(precision):
        raise WorkFailed(
            f"{found.engine} does not compute what PyTorch did: relative error {found.chunk:.2e} of the actions "
            f"(limit {CHUNK_ERROR[precision]:.0e}), worst prefix tensor {found.prefix_worst} {found.prefix:.2e}; "
            "no bundle was written"
        )
    return ParityReport(
        precision=precision,
        engine=found.engine,
        samples=found.samples,
        prefix=found.prefix,
        step=found.step,
        chunk=found.chunk,
        gate=CHUNK_ERROR[precision],
        effect=effect,
    )


def _sizes(root: Path, graphs: dict[Precision, Graphs]) -> list[GraphFile]:
    names = [file for g in graphs.values() for file in (g.encode, g.denoise)]
    summaries = {name: summarise(root / name) for name in names}
    return [GraphFile(name=name, nodes=found.nodes, bytes=found.file_bytes) for name, found in summaries.items()]


def _report(
    policy: PreparedPolicy, overall: ActionEffect, sizes: Sequence[GraphFile], parity: Sequence[ParityReport]
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
            held_out=len(observations.held_out),
        ),
        ignored_tensors=dict(policy.checkpoint.ignored),
        merge=policy.merge,
        depth=policy.depth,
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
