"""vla-bundle: look at a policy bundle, check it on this machine, build its engines."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from vla_runtime import command
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import default_bundle
from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import read_golden
from vla_runtime.bundle.manifest import Camera, Dimension, Manifest, Precision, Space
from vla_runtime.bundle.parity import Parity, compare
from vla_runtime.engines.choice import PREFERENCES, TENSORRT_PRECISIONS, open_engine, tensorrt_precision
from vla_runtime.errors import WorkFailed


def main() -> int:
    """The command; returns its exit code."""
    return command.run(lambda: _run(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="vla-bundle", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    inspect = verbs.add_parser("inspect", help="what the bundle is and what was done to it")
    verify = verbs.add_parser("verify", help="digests, and parity with PyTorch on the golden samples")
    verify.add_argument("--engine", choices=PREFERENCES, default="onnxruntime")
    build = verbs.add_parser("build", help="TensorRT engines for this machine, into the engine cache")
    build.add_argument("--precision", choices=TENSORRT_PRECISIONS, help="default: the smallest in the bundle")
    for verb in (inspect, verify, build):
        verb.add_argument("bundle", nargs="?", type=Path, help="default: $VLA_BUNDLE, else the last one exported here")
        verb.add_argument("--json", action="store_true", help="print JSON for machines")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    bundle = Bundle.open(arguments.bundle or default_bundle())
    if arguments.verb == "inspect":
        return _inspect(bundle, arguments.json)
    if arguments.verb == "verify":
        return _verify(bundle, arguments.engine, arguments.json)
    return _build(bundle, arguments.precision or tensorrt_precision(bundle), arguments.json)


def _inspect(bundle: Bundle, as_json: bool) -> int:
    manifest = bundle.manifest
    sizes = {name: bundle.path(name).stat().st_size for name in manifest.files}
    if as_json:
        print(json.dumps({**manifest.model_dump(mode="json"), "sizes": sizes}, indent=2))
        return command.DONE
    console = Console(markup=False)
    console.print(_overview(bundle.root, manifest, sum(sizes.values())))
    console.print(_stages(manifest))
    files = Table("file", "bytes", "sha256", title="files", title_justify="left")
    for name, size in sizes.items():
        files.add_row(name, f"{size:,}", manifest.files[name][:16])
    console.print(files)
    return command.DONE


def _overview(root: Path, manifest: Manifest, size: int) -> Table:
    table = Table(title=str(root), title_justify="left", show_header=False)
    origin = manifest.provenance
    rows = {
        "family": manifest.family,
        "cameras": "\n".join(_camera(camera) for camera in manifest.cameras),
        "state": _space(manifest.state),
        "action": _space(manifest.action),
        "chunk": f"{manifest.horizon} actions at {manifest.rate:g} Hz ({manifest.horizon / manifest.rate:g} s), "
        f"{manifest.flow_steps} flow steps",
        "task": f"at most {manifest.tokenizer.max_length} tokens"
        + (", the state among them" if manifest.tokenizer.state_bins else ""),
        "precisions": ", ".join(
            f"{precision}{'' if graphs.guided is None else ' (guided too)'}"
            for precision, graphs in manifest.graphs.items()
        ),
        "size": f"{size / 1e6:,.1f} MB in {len(manifest.files)} files",
        "checkpoint": f"{origin.checkpoint} ({origin.checkpoint_sha256[:16]})",
        "adapter": f"{origin.adapter} ({(origin.adapter_sha256 or '')[:16]})" if origin.adapter else "none",
        "exporter": origin.exporter,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _camera(camera: Camera) -> str:
    bars = {"both": "on both sides", "left_top": "on the left and top"}[camera.padding]
    size = f"{camera.width}×{camera.height}"
    return f"{camera.name} {size} {camera.layout}, {camera.resize} resize, bars of {camera.bars:g} {bars}"


def _space(space: Space) -> str:
    lines = [{"joints": "joint positions", "end_pose": "pose of the end effector"}[space.quantity]]
    relative = space.relative or (False,) * len(space.dimensions)
    for d, to_state in zip(space.dimensions, relative, strict=True):
        lines.append(f"{d.name} [{d.unit}]{_limits(d)}{', relative to the state' if to_state else ''}")
    return "\n".join(lines)


def _limits(dimension: Dimension) -> str:
    if dimension.lower is None and dimension.upper is None:
        return ""
    lower = "-∞" if dimension.lower is None else f"{dimension.lower:g}"
    upper = "∞" if dimension.upper is None else f"{dimension.upper:g}"
    return f" {lower} … {upper}"


def _stages(manifest: Manifest) -> Table:
    table = Table("stage", "what it did", "measured", title="from checkpoint to bundle", title_justify="left")
    for stage in manifest.provenance.stages:
        table.add_row(stage.name, stage.summary, "\n".join(f"{k}: {v:.3g}" for k, v in stage.measured.items()))
    return table


def _verify(bundle: Bundle, preference: str, as_json: bool) -> int:
    samples = read_golden(bundle.path(bundle.manifest.golden))
    results: dict[Precision, Parity] = {}
    left_out = [p for p in bundle.manifest.graphs if preference == "tensorrt" and p not in TENSORRT_PRECISIONS]
    for precision in bundle.manifest.graphs:
        if precision in left_out:
            continue
        engine, _ = open_engine(bundle, preference, precision)
        results[precision] = compare(engine, samples, bundle.manifest.flow_steps)
    if as_json:
        print(json.dumps([_parity_record(precision, parity) for precision, parity in results.items()], indent=2))
    else:
        Console(markup=False).print(_parity_table(len(samples), results))
    for precision, parity in results.items():
        if not parity.passes(precision):
            raise WorkFailed(
                f"{bundle.root}: {parity.engine} does not agree with PyTorch: relative error of the chunk "
                f"{parity.chunk:.2e}, at most {CHUNK_ERROR[precision]:.0e} allowed; largest in {parity.prefix_worst} "
                f"({parity.prefix:.2e}){'' if parity.guided is None else f'; of steering {parity.guided:.2e}'}"
            )
    if left_out:
        print(f"skipped: {', '.join(left_out)} graphs, which TensorRT does not run", file=sys.stderr)
        return command.PART_SKIPPED
    return command.DONE


def _parity_record(precision: Precision, parity: Parity) -> dict[str, Any]:
    measured = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(parity).items()}
    return {"precision": precision, **measured, "gate": CHUNK_ERROR[precision], "passes": parity.passes(precision)}


def _parity_table(samples: int, results: dict[Precision, Parity]) -> Table:
    steered = any(parity.guided is not None for parity in results.values())
    columns = ("engine", "prefix (worst)", "first step", "chunk", *(("steering",) if steered else ()), "allowed", "")
    table = Table(*columns, title_justify="left")
    table.title = f"files intact; relative error against PyTorch, {samples} golden samples"
    for precision, parity in results.items():
        table.add_row(
            parity.engine,
            f"{parity.prefix:.2e} ({parity.prefix_worst})",
            f"{parity.step:.2e}",
            f"{parity.chunk:.2e}",
            *(("no graph" if parity.guided is None else f"{parity.guided:.2e}",) if steered else ()),
            f"{CHUNK_ERROR[precision]:.0e}",
            Text("passes", style="green") if parity.passes(precision) else Text("FAILS", style="red"),
        )
    return table


def _build(bundle: Bundle, precision: Precision, as_json: bool) -> int:
    from vla_runtime.engines import tensorrt

    obstacle = tensorrt.available()
    if obstacle is not None:
        print(
            f"skipped: no TensorRT engine was built: {obstacle}. On a Jetson: sudo apt install tensorrt "
            "python3-libnvinfer. Elsewhere: pip install 'vla-deploy[tensorrt]'",
            file=sys.stderr,
        )
        return command.PART_SKIPPED
    with Progress(console=Console(stderr=True), transient=True, disable=as_json) as progress:
        total = len(bundle.manifest.graphs[precision].parts()) if precision in bundle.manifest.graphs else None
        graphs = progress.add_task(f"building {precision} engines", total=total)
        plans = tensorrt.build(bundle, precision, lambda: progress.advance(graphs))
    if as_json:
        print(json.dumps({"precision": precision, "plans": [str(plan) for plan in plans]}, indent=2))
    else:
        for plan in plans:
            print(plan)
    return command.DONE
