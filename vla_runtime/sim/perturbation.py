"""What may differ between a policy's training and its test: how far the scene's looks leave those it was trained in."""

from __future__ import annotations

from dataclasses import dataclass

from vla_runtime.errors import BadInput

OBJECTS = 3  # distractors in scene.xml


@dataclass(frozen=True)
class Perturbation:
    """Added to the variation every episode has of itself; nothing by default.

    light: how much darker or brighter and how much more tinted, 0 to 1: at 1 the lamps give a third or one and two
        thirds of their light.
    camera_shift: how far each camera moves [m]; it turns by 0.05 rad a centimetre as well.
    distractors: objects on the table besides the cubes, in place of the one or none an episode has: 0 to 3.
    side_camera: how far the side camera has gone along an arc around the middle of the table, 0 to 1: at 1 it stands a
        quarter of a circle on. The same in every episode: another setting, not more variation.

    Raises `BadInput` naming what is outside its range.
    """

    light: float = 0.0
    camera_shift: float = 0.0
    distractors: int = 0
    side_camera: float = 0.0

    def __post_init__(self) -> None:
        for name, value, most in (
            ("light", self.light, 1.0),
            ("camera_shift", self.camera_shift, 0.1),
            ("distractors", self.distractors, OBJECTS),
            ("side_camera", self.side_camera, 1.0),
        ):
            if not 0 <= value <= most:
                raise BadInput(f"perturbation: {name} {value} is not between 0 and {most}")


NOMINAL = Perturbation()
