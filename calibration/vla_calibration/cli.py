"""The command ``vla-calibrate``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_calibration import dataset
from vla_runtime import command
from vla_runtime.errors import BadInput


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vla-calibrate``; the exit code is that of every command of the project."""
    return command.run(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    step: Callable[[argparse.Namespace], int] = arguments.step
    return step(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = command.Parser(prog="vla-calibrate", description="Measure what a policy must know of a robot.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    capture = commands.add_parser("capture", help="record observations from the running topics into a calibration set")
    capture.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write")
    capture.add_argument("--samples", type=int, default=64, metavar="N", help="observations to take (default 64)")
    capture.add_argument("--rate", type=float, default=2.0, metavar="HZ", help="observations per second (default 2)")
    capture.add_argument("--task", metavar="TEXT", help="what the robot is asked to do meanwhile")
    _add_topics(capture)
    capture.set_defaults(step=_capture)
    timing = commands.add_parser("timing", help="measure what to add to each camera's stamps, while the arm is moved")
    timing.add_argument("--seconds", type=float, default=20.0, metavar="S", help="how long to measure (default 20)")
    timing.add_argument("--bag", type=Path, metavar="DIR", help="measure in this bag instead of on the running topics")
    _add_topics(timing)
    timing.set_defaults(step=_timing)
    return parser


def _add_topics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME=TOPIC",
        help="a camera and its compressed image topic; without any, every topic CAMERA/image_raw/compressed there is",
    )
    parser.add_argument("--joints", default="/joint_states", metavar="TOPIC", help="default /joint_states")
    parser.add_argument("--json", action="store_true", help="print the result for machines")


def _timing(arguments: argparse.Namespace) -> int:
    if not 5 <= arguments.seconds <= 600:
        raise BadInput(f"--seconds is {arguments.seconds:g}: give 5 to 600")
    from vla_calibration import capture, motion_sources, timing  # they need ROS, which reading a set does not

    cameras = capture.topics(arguments.camera)
    if arguments.bag is not None:
        images, joints = motion_sources.from_bag(arguments.bag, cameras, arguments.joints)
    else:
        with _progress("move the arm: quick, short moves, pauses between", arguments.json) as progress:
            bar = progress.add_task("", total=int(arguments.seconds))
            images, joints = motion_sources.from_topics(
                cameras, arguments.joints, arguments.seconds, on_second=lambda: progress.advance(bar)
            )
    offsets = {camera: timing.offset(camera, motion, joints) for camera, motion in images.items()}
    if arguments.json:
        print(json.dumps({camera: asdict(offset) for camera, offset in offsets.items()}))
        return command.DONE
    for camera, offset in offsets.items():
        told = f"{offset.seconds:+.3f} s ± {offset.error:.3f} s"
        print(f"{camera}: {told} (correlation {offset.fit:.2f} over {offset.images} pictures)")
    print("for the policy node's config:")
    entries = ", ".join(f'"{camera}={offset.seconds:.3f}"' for camera, offset in offsets.items())
    print(f"    camera_offsets: [{entries}]")
    return command.DONE


def _progress(what: str, silent: bool) -> Progress:
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=silent,
    )


def _capture(arguments: argparse.Namespace) -> int:
    if arguments.samples < 1:
        raise BadInput(f"--samples is {arguments.samples}: give at least 1")
    if not 0 < arguments.rate <= 100:
        raise BadInput(f"--rate is {arguments.rate:g}: give more than 0 and at most 100 Hz")
    if arguments.output.exists():
        raise BadInput(f"{arguments.output} exists already: choose another directory, or remove it first")
    from vla_calibration import capture  # needs ROS, which reading a set does not

    with _progress("capturing", arguments.json) as progress:
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
