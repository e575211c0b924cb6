"""``make demo``: export a trained policy, judge it before and after, drive the simulated arm with both."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

from rich.console import Console

from demo.commands import run_command
from demo.figures import table
from demo.loop import Scenario, drive
from reference.adapter_weights import write_demo_adapter
from vla_runtime.command import DONE, PART_SKIPPED, run
from vla_runtime.profiling.machine import this_machine

WEIGHTS = Path("reference") / "weights" / "policy"
OUT = Path("out") / "demo"
EXPORT = ("vla-export", "--merge", "--prune", "gate-kv:0.25", "--trt", "fp16")
SCENARIO = Scenario(task="lift", colour="red", seed=0, seconds=20.0)
EPISODES = 20

console = Console()


def main() -> int:
    """The whole demo; leaves everything under ``out/demo``."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    checkpoint = OUT / "checkpoint"
    bundles = {"as trained": OUT / "as_trained", "exported": checkpoint / "bundle"}

    console.rule("1  A trained policy, and an adapter for it")
    shutil.copytree(WEIGHTS, checkpoint)
    run_command(("vla-export", "-o", str(bundles["as trained"].resolve())), checkpoint)
    write_demo_adapter(checkpoint)
    console.print("A LoRA-SP adapter beside the checkpoint: random and small, it stands in for a trained one")

    console.rule("2  " + " ".join(EXPORT))
    run_command(EXPORT, checkpoint, good=(DONE, PART_SKIPPED))

    console.rule(f"3  {EPISODES} scenes in simulation, each with both")
    success = judge(bundles["exported"], bundles["as trained"])

    console.rule("4  Three processes, one simulated arm")
    loops = {}
    for name, bundle in bundles.items():
        console.print(f"{name}: {SCENARIO.instruction!r}, {SCENARIO.seconds:g} s of closed loop …")
        loops[name] = drive(bundle, SCENARIO, OUT / f"loop_{name.replace(' ', '_')}")

    console.rule("5  What came of it")
    console.print(table({name: (loops[name], success[name]) for name in bundles}))
    files = {
        **{f"film, {name}": OUT / f"loop_{name.replace(' ', '_')}" / "scene.mp4" for name in bundles},
        **{f"joints, {name}": OUT / f"loop_{name.replace(' ', '_')}" / "joints.png" for name in bundles},
        **{f"bundle, {name}": bundle for name, bundle in bundles.items()},
        "export report": bundles["exported"] / "report" / "index.html",
        "evaluation": OUT / "evaluation" / "report" / "index.html",
        "summary": OUT / "summary.json",
    }
    summary = {
        "task": SCENARIO.instruction,
        "success": success,
        "loops": {name: dataclasses.asdict(found) for name, found in loops.items()},
        "machine": dataclasses.asdict(this_machine()),
        "files": {name: str(path) for name, path in files.items()},
    }
    files["summary"].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, path in files.items():
        console.print(f"{name:<20} {path}", highlight=False)
    return DONE


def judge(exported: Path, as_trained: Path) -> dict[str, str]:
    """Success of both bundles on the same seeds, with Wilson's 95 % interval, in words."""
    words = ["vla-eval", str(exported), "--against", str(as_trained), "--task", SCENARIO.task]
    words += ["--episodes", str(EPISODES), "-o", str(OUT / "evaluation"), "--json"]
    rows = json.loads(run_command(words, Path(), quiet=True))["rows"]
    by_bundle = {row["bundle"]: row["success"] for row in rows}
    return {"as trained": _in_words(by_bundle["against"]), "exported": _in_words(by_bundle["bundle"])}


def _in_words(success: dict[str, float]) -> str:
    interval = f"{success['lower']:.0%} to {success['upper']:.0%}"
    return f"{success['successes']} of {success['n']} ({interval})"


if __name__ == "__main__":
    sys.exit(run(main))
