"""An episode through the whole stack: three processes over DDS, the safety layer and CAN frames, in real time."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from vla_evaluation.case import Case
from vla_evaluation.film_strip import Frames
from vla_evaluation.motion import resampled
from vla_evaluation.outcome import Rollout, Verdict, outcome_of
from vla_evaluation.pilot import RATE, executed_of, picture_size
from vla_evaluation.recording import Recording
from vla_evaluation.stack import Stack, Values
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode

_DIAGNOSTICS_RATE = 10.0  # [Hz]
_START_WITHIN = 30.0  # [s]
_SLOWEST = 5.0
"""How many times longer than its simulated time an episode may take: a busy machine simulates slower than real time."""

_INTERVENTIONS = "interventions/"
# [s]. The simulated arm shares the cores of what drives it, and a busy machine is not the policy's fault.
_PATIENCE = 0.5


def roll_out_over_ros(case: Case, episode: Episode, bundle: Bundle, directory: Path) -> Rollout:
    """Run the case of the staged ``episode`` in processes of its own; ``directory`` gets their logs and a film.

    Raises `WorkFailed` where the stack does not come up, or a node ends.
    """
    manifest = bundle.manifest
    film = (directory / "scene.mp4").resolve()
    parameters: dict[str, Values] = {
        "sim_node": {
            "task": case.task,
            "seed": case.seed,
            "colour": episode.colour,
            "image_height": picture_size(manifest),
            "image_width": picture_size(manifest),
            "diagnostics_rate": _DIAGNOSTICS_RATE,
            "video": str(film),
        },
        "arm_node": {
            "chunk_timeout": (manifest.horizon - 1) / RATE,
            "feedback_timeout": _PATIENCE,
            "overrun_timeout": _PATIENCE,
            "diagnostics_rate": _DIAGNOSTICS_RATE,
        },
        "policy_node": {
            "chunk_rate": RATE / executed_of(manifest.horizon),
            "engine": "onnxruntime",
            "precision": "auto",
            "diagnostics_rate": _DIAGNOSTICS_RATE,
        },
    }
    with Stack(bundle.root, directory, parameters=parameters) as stack:
        heard = stack.recording
        stack.enable()
        stack.wait(lambda: heard.figure("sim_node", "task_time_s") > 0, _START_WITHIN, "the scene to be judged")
        stack.ask("resume")
        stack.send_task(episode.instruction)
        stack.wait(lambda: bool(heard.chunks), _START_WITHIN, "the first action chunk")
        began, first = heard.figure("sim_node", "task_time_s"), len(heard.measured)
        made = len(heard.chunks) - 1
        stack.wait(
            lambda: heard.figure("sim_node", "task_time_s") - began >= episode.limit,
            episode.limit * _SLOWEST,
            "the episode's time to pass",
        )
        verdict = _verdict(heard, began)
        stamps, states = (np.array(column) for column in zip(*heard.measured[first:], strict=True))
        arm = heard.diagnoses["arm_node"].values
        chunks, latency = len(heard.chunks) - made, heard.figure("policy_node", "total_p50_ms")
        stack.ask("hold")
    counts = {key.removeprefix(_INTERVENTIONS): int(n) for key, n in arm.items() if key.startswith(_INTERVENTIONS)}
    outcome = outcome_of(
        case,
        episode,
        verdict,
        resampled(stamps, states, CONTROL_PERIOD),
        chunks=chunks,
        chunk_latency=None if np.isnan(latency) else latency,
        interventions={kind: count for kind, count in counts.items() if count},
        ended_because=arm["reason"] if arm.get("needs_resume") == "true" else None,
    )
    return Rollout(outcome, _frames(film))


def _verdict(heard: Recording, began: float) -> Verdict:
    values = heard.diagnoses["sim_node"].values
    succeeded = values["task_succeeded_at_s"]
    return Verdict(
        succeeded_at=None if succeeded == "never" else max(0.0, float(succeeded) - began),
        holding=values["task_holding"] == "true",
        duration=float(values["task_time_s"]) - began,
    )


def _frames(film: Path) -> Frames:
    """The whole film's frames, by the one camera it has."""
    with av.open(str(film)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [{"view": picture.astype(np.uint8)} for picture in pictures]
