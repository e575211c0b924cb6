"""What a closed loop came to, in figures: from what the nodes said of themselves and what was heard of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from vla_evaluation.recording import Recording

_INTERVENTIONS = "interventions/"


@dataclass(frozen=True)
class Figures:
    """A closed loop of ``seconds``.

    latency: from an observation to the first command sent in answer to it, p50 and p99 in [ms].
    period: between two control periods, p50 and p99 in [ms], against its target.
    inference: one chunk, from images to actions, p50 and p99 in [ms].
    joints_travelled: path length of each of the six joints, in [rad].
    interventions: how often the safety layer acted, by kind, since the arm node started.
    frames_sent: CAN frames that reached the simulated arm; frames_outside_limits: of those, beyond the firmware's own.
    achieved: whether the scene's task was achieved at some moment.
    """

    seconds: float
    chunks_per_second: float
    inference_ms: tuple[float, float]
    latency_ms: tuple[float, float]
    period_ms: tuple[float, float]
    target_period_ms: float
    frames_sent: int
    frames_outside_limits: int
    joints_travelled: tuple[float, ...]
    interventions: dict[str, int]
    achieved: bool
    engine: str


def figures(recording: Recording, began: float, ended: float, control_rate: float) -> Figures:
    """Figures of the loop between two times in [s]; raises `ValueError` where a node never reported one."""
    chunks = sum(began <= arrived <= ended for arrived, _ in recording.chunks)
    measured = np.array([positions for stamp, positions in recording.measured if began <= stamp <= ended])
    arm = recording.diagnoses["arm_node"].values
    return Figures(
        seconds=round(ended - began, 1),
        chunks_per_second=round(chunks / (ended - began), 2),
        inference_ms=_span(recording, "policy_node", "total"),
        latency_ms=_span(recording, "arm_node", "observation_to_command"),
        period_ms=_span(recording, "arm_node", "control_period"),
        target_period_ms=1e3 / control_rate,
        frames_sent=int(_reported(recording, "sim_node", "frames")),
        frames_outside_limits=int(_reported(recording, "sim_node", "frames_outside_limits")),
        joints_travelled=tuple(np.abs(np.diff(measured[:, :6], axis=0)).sum(axis=0).round(2).tolist()),
        interventions={key.removeprefix(_INTERVENTIONS): int(n) for key, n in arm.items() if _INTERVENTIONS in key},
        achieved=recording.diagnoses["sim_node"].values["task_succeeded_at_s"] != "never",
        engine=recording.diagnoses["policy_node"].values["engine"],
    )


def table(columns: Mapping[str, tuple[Figures, str]]) -> Table:
    """Closed loops side by side, as a person reads them: by name, the figures and the success rate in words."""
    rows: dict[str, list[str]] = {}

    def add(name: str, text: str) -> None:
        rows.setdefault(name, []).append(text)

    for found, success in columns.values():
        add("success over seeds", success)
        add("achieved in the film", "yes" if found.achieved else "no")
        add("closed loop", f"{found.seconds:g} s")
        add("action chunks", f"{found.chunks_per_second:.1f} a second")
        add("inference, p50 / p99", _pair(found.inference_ms))
        add("observation to command, p50 / p99", _pair(found.latency_ms))
        add(f"control period, p50 / p99 (target {found.target_period_ms:g} ms)", _pair(found.period_ms))
        add("CAN frames sent", f"{found.frames_sent:,} ({found.frames_outside_limits} outside limits)")
        happened = [f"{kind.replace('_', ' ')} {n}" for kind, n in found.interventions.items() if n]
        add("safety interventions", ", ".join(happened) or "none")
    shown = Table("", *columns)
    for name, cells in rows.items():
        shown.add_row(name, *cells)
    return shown


def _span(recording: Recording, node: str, stage: str) -> tuple[float, float]:
    p50, p99 = (round(_reported(recording, node, f"{stage}_{p}_ms"), 2) for p in ("p50", "p99"))
    return p50, p99


def _reported(recording: Recording, node: str, name: str) -> float:
    value = recording.figure(node, name)
    if math.isnan(value):
        raise ValueError(f"{node} never reported {name}")
    return value


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.1f} / {values[1]:.1f} ms"
