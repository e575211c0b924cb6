"""``make demo``: write a checkpoint, export it, drive the simulated arm with it, show what came of it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from demo.figures import Figures, figures, table
from demo.plot import draw_loop
from reference.write_checkpoint import write_reference_checkpoint
from vla_evaluation.stack import Stack
from vla_runtime.command import DONE, PART_SKIPPED, run
from vla_runtime.errors import WorkFailed
from vla_runtime.profiling.machine import this_machine

OUT = Path("out") / "demo"
EXPORT = ("vla-export", "--merge", "--prune", "cka:0.5", "--trt", "fp16")
TASK = "pick up the red cube"
SECONDS = 20.0
CONTROL_RATE = 100.0  # [Hz]

console = Console()


def main() -> int:
    """The whole demo; leaves everything under ``out/demo``."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    checkpoint = OUT / "checkpoint"
    console.rule("1  A checkpoint and its adapter")
    write_reference_checkpoint(checkpoint)
    console.print(f"{checkpoint}: a small π0 in LeRobot's layout, with a LoRA-SP adapter beside it")

    console.rule("2  " + " ".join(EXPORT))
    export(checkpoint)

    console.rule("3  Three processes, one simulated arm")
    found = drive(checkpoint / "bundle")

    console.rule("4  What came of it")
    console.print(table(found))
    left = {
        "video": OUT / "scene.mp4",
        "joints": OUT / "joints.png",
        "bundle": checkpoint / "bundle",
        "report": checkpoint / "bundle" / "report" / "index.html",
        "can_log": OUT / "can.log",
        "logs": OUT / "logs",
    }
    summary = {**dataclasses.asdict(found), "machine": dataclasses.asdict(this_machine())}
    summary["files"] = {name: str(path) for name, path in left.items()}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, path in (left | {"summary": OUT / "summary.json"}).items():
        console.print(f"{name:<8} {path}", highlight=False)
    return DONE


def export(checkpoint: Path) -> None:
    """Run the export as a user would, in the checkpoint's directory."""
    beside_python = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    code = subprocess.run(EXPORT, cwd=checkpoint, env={**os.environ, "PATH": beside_python}, check=False).returncode
    if code not in (DONE, PART_SKIPPED):
        raise WorkFailed(f"{' '.join(EXPORT)} ended with exit code {code}")


def drive(bundle: Path) -> Figures:
    """Run the closed loop for a while; leaves a film, a plot, a CAN log and the nodes' logs."""
    record = {"record": str((OUT / "can.log").resolve()), "video": str((OUT / "scene.mp4").resolve())}
    with Stack(
        bundle, OUT / "logs", parameters={"sim_node": record, "arm_node": {"control_rate": CONTROL_RATE}}
    ) as stack:
        console.print("sim_node, arm_node and policy_node are active")
        stack.enable()
        stack.send_task(TASK)
        stack.wait(lambda: bool(stack.recording.chunks), 30.0, "the first action chunk")
        stack.ask("resume")
        console.print(f"task: {TASK!r}; {SECONDS:g} s of closed loop …")
        began = time.time()
        stack.wait(lambda: time.time() - began > SECONDS, SECONDS + 5.0, "the closed loop to end")
        ended = time.time()
        found = figures(stack.recording, began, ended, CONTROL_RATE)
        stack.ask("hold")
    heard = stack.recording
    draw_loop(heard.commands, heard.measured, began, ended, OUT / "scene.mp4", OUT / "joints.png")
    return found


if __name__ == "__main__":
    sys.exit(run(main))
