"""vla-profile: how long a bundle takes on this machine, stage by stage."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from vla_runtime import command
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import default_bundle
from vla_runtime.bundle.manifest import Manifest, Precision
from vla_runtime.engines.choice import PREFERENCES, open_engine
from vla_runtime.errors import BadInput
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.units import to_si
from vla_runtime.profiling import tegrastats
from vla_runtime.profiling.latency import Latency, latency
from vla_runtime.profiling.machine import this_machine

SYNTHETIC_SIZE = (480, 640)  # what a robot's camera usually delivers: letterboxing costs what it will cost
DEFAULT_TASK = "pick up the red cube"


def main() -> int:
    """The command; returns its exit code."""
    return command.run(lambda: _profile(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="vla-profile", description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, help="default: $VLA_BUNDLE, else the last one exported here")
    parser.add_argument("--engine", choices=PREFERENCES, default="auto")
    parser.add_argument("--precision", choices=get_args(Precision), help="default: what the engine prefers")
    parser.add_argument("--iterations", type=_count, default=50, help="measured chunks (default 50)")
    parser.add_argument("--warmup", type=_count, default=5, help="chunks before measuring (default 5)")
    parser.add_argument("--task", default=DEFAULT_TASK)
    parser.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME=IMAGE_FILE",
        help="a camera's image, repeatable; a camera without one gets seeded noise, 640×480",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _profile(arguments: argparse.Namespace) -> int:
    given = dict(_camera_image(pair) for pair in arguments.camera)
    bundle = Bundle.open(arguments.bundle or default_bundle())
    engine, why = open_engine(bundle, arguments.engine, arguments.precision)
    policy = Policy(bundle, engine)
    observation = _observation(bundle.manifest, given)
    with ExitStack() as stack:
        sensors = stack.enter_context(tegrastats.TegrastatsReader()) if tegrastats.available() else None
        stages = _measure(policy, observation, arguments)
    report = {
        "bundle": str(bundle.root),
        "family": bundle.manifest.family,
        "engine": engine.name,
        "why": why,
        "flow_steps": bundle.manifest.flow_steps,
        "horizon": bundle.manifest.horizon,
        "state_in_text": bundle.manifest.tokenizer.state_bins is not None,
        "machine": asdict(this_machine()),
        "stages": {stage: summary.milliseconds() for stage, summary in stages.items()},
        "jetson": _summarise(sensors.samples()) if sensors is not None else None,
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    return command.DONE


def _measure(policy: Policy, observation: Observation, arguments: argparse.Namespace) -> dict[str, Latency]:
    console = Console(stderr=True)
    for _ in track(range(arguments.warmup), "warming up", console=console, transient=True, disable=arguments.json):
        policy.set_task(arguments.task)
        policy.infer(observation)
    policy.spans.clear()
    for _ in track(range(arguments.iterations), "measuring", console=console, transient=True, disable=arguments.json):
        policy.set_task(arguments.task)
        policy.infer(observation)
    return {stage: latency(policy.spans.seconds(stage)) for stage in policy.spans.stages()}


def _camera_image(pair: str) -> tuple[str, NDArray[np.uint8]]:
    name, separator, file = pair.partition("=")
    if not name or not separator or not file:
        raise BadInput(f"--camera {pair!r}: expected NAME=IMAGE_FILE")
    try:
        content = np.fromfile(file, np.uint8)
    except OSError as error:
        raise BadInput(f"--camera {name}: cannot read {file}: {error.strerror}") from error
    image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise BadInput(f"--camera {name}: {file} is not an image")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8)
    return name, rgb


def _observation(manifest: Manifest, given: dict[str, NDArray[np.uint8]]) -> Observation:
    rng = np.random.default_rng(0)
    synthetic = {c.name: rng.integers(0, 256, (*SYNTHETIC_SIZE, 3), dtype=np.uint8) for c in manifest.cameras}
    centre = np.array(manifest.state.normalisation.offset)
    return Observation(images={**synthetic, **given}, state=to_si(centre, manifest.state))


def _summarise(samples: tuple[tegrastats.TegraSample, ...]) -> dict[str, Any] | None:
    if not samples:
        return None
    rails = sorted({rail for sample in samples for rail in sample.power})
    sensors = sorted({sensor for sample in samples for sensor in sample.temperatures})
    return {
        "samples": len(samples),
        "ram_used_mb_max": max(sample.ram_used for sample in samples),
        "gpu_load_mean": _mean([s.gpu_load for s in samples if s.gpu_load is not None]),
        "emc_load_mean": _mean([s.emc_load for s in samples if s.emc_load is not None]),
        "power_mw_mean": {rail: _mean([s.power[rail] for s in samples if rail in s.power]) for rail in rails},
        "temperature_max": {
            sensor: max(s.temperatures[sensor] for s in samples if sensor in s.temperatures) for sensor in sensors
        },
    }


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _print_report(report: dict[str, Any]) -> None:
    console, machine = Console(markup=False), report["machine"]
    console.print(f"{report['family']} {report['bundle']}", highlight=False)
    console.print(f"{machine['cpu']}, {machine['cores']} cores; GPU: {machine['gpu'] or 'none'}", highlight=False)
    console.print(f"engine {report['why']}", highlight=False, soft_wrap=True)
    table = Table(
        "stage",
        *(Column(name, justify="right") for name in ("n", "p50 ms", "p90 ms", "p99 ms", "max ms")),
        caption=f"denoise: each of the {report['flow_steps']} flow steps; total: one chunk"
        + ("" if report["state_in_text"] else ", without tokens"),
    )
    for stage, summary in report["stages"].items():
        n, *milliseconds = summary.values()
        table.add_row(stage, str(n), *(f"{value:.3f}" for value in milliseconds))
    console.print(table)
    if report["jetson"] is not None:
        for name, value in report["jetson"].items():
            console.print(f"{name}: {value}", highlight=False)
