"""What steering costs: a guided flow step beside a free one in ONNX Runtime, in turns.

    python -m benchmarks.guided_step [--rounds 30] [--threads 1] [--json]

Two policies: the reference policy, and half of a SmolVLA's depth at its full width with random weights, whose prefix is
as long as a SmolVLA's with two cameras. A round is ten steps of each form; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.random_policy import FLOW_STEPS, random_policy, random_sample
from vla_export.checkpoints.reading import read
from vla_export.graph.onnx_export import export_graphs
from vla_export.models.blocks import StackSize
from vla_export.models.flow_model import FlowModel
from vla_export.models.smolvla import SMOL_EXPERT, SMOLLM2_HALF, SmolVLA, SmolVLAConfig
from vla_export.observations import synthetic
from vla_export.sample import Sample
from vla_runtime.engines.onnxruntime import OnnxRuntimeGraphs
from vla_runtime.policy.rtc import Rtc, target
from vla_runtime.policy.sampling import continuing_steps, euler_steps
from vla_runtime.profiling.machine import this_machine
from vla_runtime.profiling.spans import Spans

REFERENCE = Path(__file__).resolve().parents[1] / "reference" / "weights" / "policy"
HALF_SMOLVLA = SmolVLAConfig(
    vision=StackSize(depth=1, width=48, mlp=96, heads=3, kv_heads=3, head_dim=16),
    language=replace(SMOLLM2_HALF, depth=8),
    expert=replace(SMOL_EXPERT, depth=8),
    vocabulary=1000,
)


@dataclass(frozen=True)
class Row:
    """One form on one policy: the median of a step in [ms], and how many times a free step's, with its quartiles."""

    policy: str
    form: str
    step_ms: float
    ratio: float
    ratio_quartiles: tuple[float, float]


def reference() -> tuple[FlowModel, Sample]:
    """The reference policy, and an observation made up for it."""
    checkpoint = read(REFERENCE)
    return checkpoint.model, synthetic(checkpoint.interface, 3).held_out[0]


def half_smolvla() -> tuple[FlowModel, Sample]:
    """Eight layers of a SmolVLA's expert, which a flow step runs, and of the language model whose keys it reads."""
    return random_policy(SmolVLA, HALF_SMOLVLA), random_sample(HALF_SMOLVLA, 2, 0)


def measure(name: str, make: Callable[[], tuple[FlowModel, Sample]], rounds: int, threads: int) -> list[Row]:
    """Export the policy in fp32 and run its flow in every form, in turns."""
    with tempfile.TemporaryDirectory() as place:
        model, sample = make()
        files = export_graphs(model, sample, Path(place), guided=True)
        del model
        assert files.guided is not None
        paths = [Path(place) / file for file in (files.encode, files.denoise, files.guided)]
        graphs = OnnxRuntimeGraphs(paths[0], paths[1], "fp32", threads, guided=paths[2])
        return _rows(name, _in_turns(graphs, sample, rounds))


def _in_turns(graphs: OnnxRuntimeGraphs, sample: Sample, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of a step by form, one number per round; the first round warms up and is left out.

    Each round begins with another form, for whoever follows the guided one finds the caches full of its weights.
    """
    prefix = graphs.encode({name: tensor.numpy() for name, tensor in sample.observed.items()})
    noise = sample.noise.numpy()
    horizon = noise.shape[1]
    former = target(np.roll(noise[0], 1, axis=0)[: horizon * 3 // 4], horizon // 4, horizon, "exponential")
    flow = (graphs, prefix, noise, FLOW_STEPS, Spans())
    forms: dict[str, Callable[[], object]] = {
        "free": lambda: list(euler_steps(*flow)),
        "hard": lambda: list(continuing_steps(*flow, Rtc("hard"), former)),
        "identity": lambda: list(continuing_steps(*flow, Rtc("identity"), former)),
        "guided": lambda: list(continuing_steps(*flow, Rtc("guided"), former)),
    }
    taken: dict[str, list[float]] = {form: [] for form in forms}
    for turn in range(rounds + 1):
        first = turn % len(forms)
        for form in (*list(forms)[first:], *list(forms)[:first]):
            started = time.perf_counter()
            forms[form]()
            if turn:
                taken[form].append((time.perf_counter() - started) * 1e3 / FLOW_STEPS)
    return taken


def _rows(policy: str, taken: dict[str, list[float]]) -> list[Row]:
    rows = []
    for form, milliseconds in taken.items():
        ratios = [one / free for one, free in zip(milliseconds, taken["free"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        rows.append(Row(policy, form, statistics.median(milliseconds), statistics.median(ratios), (low, high)))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    policies = {"reference policy": reference, "SmolVLA, 8 layers": half_smolvla}
    rows = [row for name, make in policies.items() for row in measure(name, make, arguments.rounds, arguments.threads)]
    if arguments.json:
        print(json.dumps({"load": load, "machine": asdict(this_machine()), "rows": [asdict(row) for row in rows]}))
        return
    table = Table("policy", "form", "step [ms]", "times a free step", "quartiles", title=f"load before: {load:.1f}")
    for row in rows:
        low, high = row.ratio_quartiles
        table.add_row(row.policy, row.form, f"{row.step_ms:.2f}", f"{row.ratio:.2f}", f"{low:.2f} to {high:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
