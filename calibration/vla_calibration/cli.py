"""The command ``vla-calibrate``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_calibration import dataset
from vla_runtime import command
from vla_runtime.errors import BadInput


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vla-calibrate``; the exit code is that of every command of the project."""
    return command.run(lambda: _capture(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="vla-calibrate", description="Measure what a policy must know of a robot.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    capture = commands.add_parser("capture", help="record observations from the running topics into a calibration set")
    capture.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write")
    capture.add_argument("--samples", type=int, default=64, metavar="N", help="observations to take (default 64)")
    capture.add_argument("--rate", type=float, default=2.0, metavar="HZ", help="observations per second (default 2)")
    capture.add_argument("--task", metavar="TEXT", help="what the robot is asked to do meanwhile")
    capture.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME=TOPIC",
        help="a camera and its compressed image topic; without any, every topic CAMERA/image_raw/compressed there is",
    )
    capture.add_argument("--joints", default="/joint_states", metavar="TOPIC", help="default /joint_states")
    capture.add_argument("--json", action="store_true", help="print the result for machines")
    return parser


def _capture(arguments: argparse.Namespace) -> int:
    if arguments.samples < 1:
        raise BadInput(f"--samples is {arguments.samples}: give at least 1")
    if not 0 < arguments.rate <= 100:
        raise BadInput(f"--rate is {arguments.rate:g}: give more than 0 and at most 100 Hz")
    if arguments.output.exists():
        raise BadInput(f"{arguments.output} exists already: choose another directory, or remove it first")
    from vla_calibration import capture  # needs ROS, which reading a set does not

    progress = Progress(
        TextColumn("capturing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=arguments.json,
    )
    with progress:
        bar = progress.add_task("", total=arguments.samples)
        calibration = capture.capture(
            capture.topics(arguments.camera),
            arguments.joints,
            arguments.samples,
            arguments.rate,
            arguments.task,
            on_sample=lambda: progress.advance(bar),
        )
    dataset.write(calibration, arguments.output)
    if arguments.json:
        result = {"path": str(arguments.output), "count": len(calibration), "cameras": list(calibration.images)}
        print(json.dumps(result))
    else:
        print(f"{arguments.output}: {len(calibration)} observations of {', '.join(calibration.images)} and the joints")
    return command.DONE
