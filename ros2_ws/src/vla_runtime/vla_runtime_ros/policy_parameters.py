"""The policy node's parameters, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast, get_args

from vla_runtime.arms.inverse_kinematics import MODEL_FIRMWARE
from vla_runtime.bundle.manifest import Precision
from vla_runtime.errors import BadInput
from vla_runtime.policy.rtc import Rtc
from vla_runtime_ros import camera_settings
from vla_runtime_ros.observation_buffer import Matching
from vla_runtime_ros.params import NO_STRINGS, Parameter

Value = Callable[[str], Any]

NO_RTC = "off"

TABLE = (
    Parameter("bundle", "", "Policy bundle; empty for $VLA_BUNDLE, else the last one exported on this machine."),
    Parameter("engine", "auto", "Inference engine: auto, onnxruntime or tensorrt."),
    Parameter("precision", "auto", "Precision of the graphs: auto, fp32, fp16 or int8."),
    Parameter("firmware", MODEL_FIRMWARE, "Firmware of the arm, for policies of the end pose: it zeroes the joints."),
    Parameter("task", "", "What the arm shall do; empty to wait for ~/task. May change at any time.", read_only=False),
    Parameter(
        "chunk_rate",
        0.0,
        "Most chunks per second [Hz]; 0 for as many as the policy can. May change at any time.",
        (0.0, 100.0),
        read_only=False,
    ),
    Parameter(
        "observation_timeout",
        0.5,
        "Age beyond which an input is stale [s]. May change at any time.",
        (0.02, 10.0),
        read_only=False,
    ),
    Parameter(
        "camera_tolerance",
        0.2,
        "How far apart the images of one observation may be taken [s]. May change at any time.",
        (0.001, 10.0),
        read_only=False,
    ),
    Parameter(
        "camera_offsets",
        NO_STRINGS,
        "CAMERA=SECONDS added to its stamps, as vla-calibrate timing measures them. May change at any time.",
        read_only=False,
    ),
    Parameter("image_transport", "compressed", "What the camera topics carry: compressed or raw."),
    Parameter("camera_topics", NO_STRINGS, "CAMERA=TOPIC of cameras not on CAMERA/image_raw[/compressed]."),
    Parameter("joint_states_topic", "joint_states", "Topic of the measured joints."),
    Parameter("heartbeat_rate", 10.0, "Heartbeats published per second [Hz].", (1.0, 100.0)),
    Parameter("rtc.form", NO_RTC, "Real-time chunking: off, hard, identity, or guided with a bundle that can."),
    Parameter("rtc.schedule", "exponential", "How the pull towards the former chunk fades: linear or exponential."),
    Parameter("rtc.beta", 5.0, "The most that the pull towards the former chunk counts.", (0.1, 100.0)),
    Parameter(
        "rtc.latency_percentile", 95.0, "Percentile of the latencies that decides what is frozen.", (50.0, 100.0)
    ),
    Parameter(
        "rtc.tolerance", 0.15, "How far the arm may be from a chunk for the next to continue it [rad].", (0.01, 1.0)
    ),
)


def precision(name: str) -> Precision | None:
    """By the parameter ``precision``, None for the engine's own choice; raises `BadInput` for one there is not."""
    if name == "auto":
        return None
    if name not in get_args(Precision):
        raise BadInput(f"parameter precision is {name!r}; it can be auto, {', '.join(get_args(Precision))}")
    return cast(Precision, name)


def rtc(value: Value) -> Rtc | None:
    """How chunks continue each other, None where they do not; raises `BadInput` for a form or schedule there is not."""
    if value("rtc.form") == NO_RTC:
        return None
    return Rtc(form=value("rtc.form"), schedule=value("rtc.schedule"), beta=value("rtc.beta"))


def matching(value: Value, cameras: Sequence[str]) -> Matching:
    """What belongs to one observation; raises `BadInput` for an offset that is none or of another camera."""
    return Matching(
        timeout=value("observation_timeout"),
        tolerance=value("camera_tolerance"),
        offsets=camera_settings.offsets(cameras, value("camera_offsets")),
    )


def period(value: Value) -> float:
    """Least time between two chunks, in [s]; 0 for none."""
    return 1.0 / value("chunk_rate") if value("chunk_rate") else 0.0
