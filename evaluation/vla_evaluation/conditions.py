"""Under which conditions every seed is run: undisturbed, then those of a suite, one strength after another."""

from __future__ import annotations

from dataclasses import dataclass

from vla_runtime.sim.perturbation import NOMINAL, Perturbation


@dataclass(frozen=True)
class Condition:
    """What makes an episode harder.

    perturbation: of what the cameras see.
    latency: how much later than observed a chunk can be followed, in [s], whole control periods; until then the chunk
        before it is, and what was due meanwhile is skipped.
    dropped: probability that a frame of 10 Hz does not arrive; the policy then sees the last one that did.
    """

    name: str
    perturbation: Perturbation = NOMINAL
    latency: float = 0.0
    dropped: float = 0.0


SUITES: dict[str, tuple[Condition, ...]] = {
    "light": tuple(Condition(f"light {x:g}", Perturbation(light=x)) for x in (0.25, 0.5, 1.0)),
    "camera-shift": tuple(Condition(f"cameras {mm} mm", Perturbation(camera_shift=mm / 1e3)) for mm in (5, 10, 20)),
    "side-camera": tuple(Condition(f"side camera {x:g}", Perturbation(side_camera=x)) for x in (0.25, 0.5, 1.0)),
    "distractors": tuple(Condition(f"{n} distractors", Perturbation(distractors=n)) for n in (2, 3)),
    "latency": tuple(Condition(f"{ms} ms late", latency=ms / 1e3) for ms in (100, 200, 400)),
    "dropped-frames": tuple(Condition(f"{x:.0%} of frames dropped", dropped=x) for x in (0.3, 0.6, 0.9)),
}
"""By the name a user gives."""


def conditions(suite: str | None) -> tuple[Condition, ...]:
    """The undisturbed condition, then those of the suite; raises `KeyError` for a suite that is none."""
    return (Condition("nominal"), *(SUITES[suite] if suite is not None else ()))
