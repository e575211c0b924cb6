"""One closed loop: three processes, the simulated arm, a task; filmed, plotted and logged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from demo.figures import Figures, figures
from demo.plot import draw_loop
from vla_evaluation.stack import Stack, Values
from vla_runtime.sim.episode import instruction

CONTROL_RATE = 100.0  # [Hz]
IMAGE_SIZE = 64  # [px], as in training


@dataclass(frozen=True)
class Scenario:
    """A scene, what is asked in it, and for how long [s]."""

    task: str
    colour: str
    seed: int
    seconds: float

    @property
    def instruction(self) -> str:
        """The task in words, as the policy gets it."""
        return instruction(self.task, self.colour)


def drive(bundle: Path, scenario: Scenario, directory: Path) -> Figures:
    """Run the loop; leaves ``scene.mp4``, ``joints.png``, ``can.log`` and ``logs/`` in a new directory."""
    directory.mkdir()
    film = directory / "scene.mp4"
    simulation: Values = {
        "task": scenario.task,
        "colour": scenario.colour,
        "seed": scenario.seed,
        "image_height": IMAGE_SIZE,
        "image_width": IMAGE_SIZE,
        "record": str((directory / "can.log").resolve()),
        "video": str(film.resolve()),
    }
    parameters: dict[str, Values] = {"sim_node": simulation, "arm_node": {"control_rate": CONTROL_RATE}}
    with Stack(bundle, directory / "logs", parameters=parameters) as stack:
        stack.enable()
        stack.send_task(scenario.instruction)
        stack.wait(lambda: bool(stack.recording.chunks), 30.0, "the first action chunk")
        stack.ask("resume")
        began = time.time()
        stack.wait(lambda: time.time() - began > scenario.seconds, scenario.seconds + 5.0, "the closed loop to end")
        ended = time.time()
        found = figures(stack.recording, began, ended, CONTROL_RATE)
        stack.ask("hold")
    heard = stack.recording
    draw_loop(heard.commands, heard.measured, began, ended, film, directory / "joints.png")
    return found
