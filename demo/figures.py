"""What a closed loop came to, in figures: from what the nodes said of themselves and what was heard of them."""

from __future__ import annotations

import math
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
        engine=recording.diagnoses["policy_node"].values["engine"],
    )


def table(found: Figures) -> Table:
    """The figures as a person reads them."""
    rows = Table(title=f"{found.seconds:g} s of closed loop", title_justify="left", show_header=False)
    rows.add_row("action chunks", f"{found.chunks_per_second:.1f} a second")
    rows.add_row("inference, p50 / p99", _pair(found.inference_ms))
    rows.add_row("observation to command, p50 / p99", _pair(found.latency_ms))
    rows.add_row("control period, p50 / p99", f"{_pair(found.period_ms)} (target {found.target_period_ms:g} ms)")
    rows.add_row("CAN frames sent", f"{found.frames_sent:,} ({found.frames_outside_limits} outside limits)")
    rows.add_row("joints travelled", f"{', '.join(f'{way:.1f}' for way in found.joints_travelled)} rad")
    happened = [f"{kind.replace('_', ' ')} {n}" for kind, n in found.interventions.items() if n]
    rows.add_row("safety interventions", ", ".join(happened) or "none")
    return rows


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
