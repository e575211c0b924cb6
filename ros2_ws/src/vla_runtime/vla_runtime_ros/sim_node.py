"""The node that stands in for the robot: a PiPER that answers on its CAN bus, and cameras that see it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.sim.episode import Episode
from vla_runtime.sim.judged_scene import JudgedScene
from vla_runtime.sim.scene import Scene
from vla_runtime_ros import converters, qos, running
from vla_runtime_ros.camera_loop import CameraLoop, focal_length
from vla_runtime_ros.diagnostics import Health, Level, durations
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.params import Parameter
from vla_runtime_ros.rate import Rate
from vla_runtime_ros.worker import Worker

CAMERAS = ("side", "wrist")
_END_WITHIN = 10.0  # [s]; a film has to be finished


class SimNode(ManagedNode):
    """Configured, the simulated arm answers on its bus; active, the cameras publish too."""

    PARAMETERS = (
        Parameter("can", "udp:piper", "CAN bus to answer on: udp:NAME, virtual:NAME or a SocketCAN interface."),
        Parameter("seed", 0, "Where the cubes lie.", (0, 2**31 - 1)),
        Parameter("task", "", "Task to judge, in its own scene: reach, lift or place; empty for the bare scene."),
        Parameter("colour", "", "Cube that the judged task names; empty for the one that the seed names."),
        Parameter("camera_rate", 15.0, "Images per second of each camera [Hz].", (1.0, 60.0)),
        Parameter("image_height", 224, "Height of the images [px].", (16, 2048)),
        Parameter("image_width", 224, "Width of the images [px].", (16, 2048)),
        Parameter("jpeg_quality", 90, "Quality of the images [%]. May change at any time.", (1, 100), read_only=False),
        Parameter("record", "", "Candump log of every command frame that arrives; empty for none."),
        Parameter("video", "", "MP4 film of the scene; empty for none."),
    )

    def __init__(self) -> None:
        super().__init__("sim_node")

    def setup(self) -> None:
        """Build the scene and put the arm on the bus.

        Raises `BadInput` for a task or colour there is not, `WorkFailed` where nothing can render.
        """
        self._episode = self._judged_episode()
        self._scene = Scene(self.value("seed")) if self._episode is None else self._episode.scene
        plant = self._scene if self._episode is None else JudgedScene(self._episode)
        bus = open_bus(self.value("can"))
        self.resources.callback(bus.shutdown)
        self._arm = SimulatedPiper(bus, plant, recording=_path(self.value("record")))
        self.resources.callback(self._arm.close)
        self._size = (self.value("image_height"), self.value("image_width"))
        self._image_rate = Rate()
        self._images = {}
        self._infos = {}
        for name in CAMERAS:
            self._images[name] = self.publisher(CompressedImage, f"{name}/image_raw/compressed", qos.IMAGE_SOURCE)
            self._infos[name] = self.publisher(CameraInfo, f"{name}/camera_info", qos.IMAGE_SOURCE)
        rate, film = self.value("camera_rate"), _path(self.value("video"))
        self._cameras = CameraLoop(self._scene, CAMERAS, self._size, rate, self._publish, film)
        self._work("simulated arm", self._arm.run)
        self._work("cameras", self._cameras.run)
        self._cameras.ready.result()

    def start(self) -> None:
        """Let the cameras publish."""
        self._cameras.delivering.set()

    def stop(self) -> None:
        """Silence the cameras; the arm stays on its bus."""
        self._cameras.delivering.clear()

    def health(self) -> Health:
        """What reached the simulated arm, and whether any of it was beyond the firmware's limits."""
        audit = self._arm.audit
        values: dict[str, float | int | str] = {
            "image_rate_hz": self._image_rate.per_second(time.time()) / len(CAMERAS),
            **durations(self._cameras.spans),
            "frames": sum(audit.frames.values()),
            "frames_outside_limits": audit.outside_limits,
            "frames_malformed": audit.malformed,
            **{f"frames/0x{identifier:03X}": count for identifier, count in sorted(audit.frames.copy().items())},
            **self._verdict(),
        }
        if audit.outside_limits or audit.malformed:
            return Health(Level.ERROR, "commands beyond the firmware's limits or malformed arrived", values)
        return Health(Level.OK, "simulating", values)

    def _judged_episode(self) -> Episode | None:
        task, colour = self.value("task"), self.value("colour")
        if not task:
            return None
        return Episode(task, self.value("seed"), colour=colour or None, render=False)

    def _verdict(self) -> dict[str, float | str]:
        """How the judged task stands, in [s] of simulated time since the arm is on its bus; nothing without a task."""
        if self._episode is None:
            return {}
        succeeded = self._episode.succeeded_at
        return {
            "task_time_s": self._episode.time,
            "task_holding": str(self._episode.holding).lower(),
            "task_succeeded_at_s": "never" if succeeded is None else succeeded,
        }

    def _work(self, name: str, target: Callable[[threading.Event], None]) -> None:
        worker = Worker(name, target, lambda error: self.halt(f"the thread of the {name} failed: {error!r}"))
        self.resources.callback(worker.stop, _END_WITHIN)

    def _publish(self, camera: str, stamp: float, picture: NDArray[np.uint8]) -> None:
        frame = f"{camera}_optical_frame"
        image = converters.compressed_from_rgb(picture, stamp, frame, self.value("jpeg_quality"))
        height, width = self._size
        focal = focal_length(self._scene, camera, height)
        self._infos[camera].publish(converters.pinhole(image.header, height, width, focal))
        self._images[camera].publish(image)
        self._image_rate.tick(time.time())


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def main() -> None:
    """The executable."""
    sys.exit(running.main(SimNode))


if __name__ == "__main__":
    main()
