"""The whole stack in simulated time: cameras, policy node, arm node and PiPER, without ROS and without waiting.

What is real: the observation buffer, the inference loop, the policy's pre- and postprocessing, the messages and their
conversion, the choice between publishers, the control loop, the controller with its executor and limiter, the driver
with the manufacturer's SDK, CAN frames, the simulated PiPER. What stands in: the engine, the cameras' pictures, the
topics (`Stream`), and time.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, JointState
from trajectory_msgs.msg import JointTrajectory

from tests.faults.hearing_audit import HearingAudit
from tests.faults.stepped_piper import SteppedPiper
from tests.faults.stepped_thread import SteppedThread
from tests.faults.stream import Stream
from tests.faults.swinging_engine import CENTRE, SWING, SwingingEngine
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.errors import BadInput
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.rtc import PreviousChunk
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState
from vla_runtime_ros import converters, heartbeat
from vla_runtime_ros.arm_space import ArmSpace
from vla_runtime_ros.chunk_source import ChunkSource
from vla_runtime_ros.control_loop import ControlLoop, Request
from vla_runtime_ros.inference_loop import Answer, InferenceLoop
from vla_runtime_ros.observation_buffer import Matching, ObservationBuffer, Snapshot
from vla_runtime_ros.pace import Pace

STEP = 0.005  # [s], of the simulated arm
CAMERAS = ("side", "wrist")
CAMERA_PERIOD = 0.05
IMAGE_DELAY = 0.015
HEARTBEAT_PERIOD = 0.1
CHUNK_PERIOD = 0.1
INFERENCE = 0.08  # [s], how long an answer takes
OBSERVATION_TIMEOUT = 0.5
PUBLISHER_TIMEOUT = 1.0
SETTINGS = ControlSettings(watchdogs={heartbeat.POLICY: 0.2, **dict.fromkeys(CAMERAS, 0.3)})
_BEGIN = 1000.0
_CONNECTING = 0.1  # [s], in which all that the arm says becomes due


class World:
    """Everything between the cameras and the arm. Close it after use.

    now: the true time in [s]; nobody in the stack knows it. clock_error: what the host's clock is ahead of it, in [s].
    images, joints, chunks, heartbeats: the topics.
    arm: the simulated PiPER, with its `SimulatedFaults`. bus: its side of the CAN bus. audit: what it heard.
    stalled_until: the control loop does not come to its turn before, in [s].
    refused_chunk: why the newest chunk was not handed to the control loop, None where it was. seen_refusal, mend_sends:
    what `tests.faults.injections` remembers.
    enabled: how often the user enabled the arm. sent: per arm node there was, (time, command) of all it sent.
    """

    def __init__(self, bundle: Bundle, firmware: str = "S-V1.8-2") -> None:
        self.now, self.clock_error = _BEGIN, 0.0
        self._steps = 0
        self._spec = f"virtual:{uuid.uuid4().hex}"
        self.bus = open_bus(self._spec)
        self.arm = SimulatedPiper(self.bus, KinematicPlant(CENTRE - SWING), firmware=firmware)
        self.arm.audit = self.audit = HearingAudit()
        self._manifest = bundle.manifest
        self._picture = converters.compressed_from_rgb(np.full((32, 32, 3), 90, np.uint8), 0.0, "", 90).data
        self.images: dict[str, Stream[CompressedImage]] = {
            name: Stream(self._image_receiver(name), IMAGE_DELAY) for name in CAMERAS
        }
        self.joints: Stream[JointState] = Stream(self._on_joints)
        self.chunks: Stream[JointTrajectory] = Stream(lambda message: self.receive_chunk(message, "policy"))
        self.heartbeats: Stream[DiagnosticArray] = Stream(self._on_heartbeat)
        self.refused_chunk: str | None = None
        self._start_policy(bundle)
        self.controlling = False
        self.stalled_until = -np.inf
        self.seen_refusal: str | None = None
        self.mend_sends: Callable[[], None] = _nothing
        self.enabled = 0
        self.sent: list[list[tuple[float, NDArray[np.float64]]]] = []

    # The policy node.

    def _start_policy(self, bundle: Bundle) -> None:
        self.engine = SwingingEngine(bundle.manifest)
        space = ArmSpace(bundle.manifest, "S-V1.8-2")
        self._measured = space.measured
        self._observations = _SteppedBuffer(CAMERAS, Matching(OBSERVATION_TIMEOUT, tolerance=0.2), self)
        self.inference: InferenceLoop[CompressedImage] = InferenceLoop(
            _Thinker(self, Policy(bundle, self.engine), space),
            self._observations,
            self._publish,
            lambda reason: None,
            CHUNK_PERIOD,
            self.clock,
        )
        self.inference.set_task("reach the red cube")
        self.thinking = SteppedThread(lambda: self.inference.run(_SteppedEvent(self)))
        self.policy_alive = True

    def _publish(self, snapshot: Snapshot[CompressedImage], targets: NDArray[np.float64]) -> None:
        message = converters.trajectory(snapshot.stamp, JOINT_NAMES, targets, self._manifest.rate)
        self.chunks.send(message, self.now)

    def _image_receiver(self, camera: str) -> Callable[[CompressedImage], None]:
        def receive(message: CompressedImage) -> None:
            self._observations.put_image(camera, converters.seconds(message.header.stamp), message, self.clock())

        return receive

    def _on_joints(self, message: JointState) -> None:
        try:
            positions = converters.positions_by_name(message, self._measured)
        except BadInput:
            return
        self._observations.put_state(converters.seconds(message.header.stamp), positions, self.clock())

    # The arm node.

    def start_control(self) -> None:
        """An arm node comes up: its driver connects, and it is active; the arm is not enabled yet."""
        controller = ArmController(SETTINGS, PIPER_LIMITS)
        self.driver = SteppedPiper(self._spec, self.clock, lambda: self.now)
        self._connect()
        self.sent.append(self.driver.sent)
        self.loop = ControlLoop(self.driver, controller, Pace(1 / SETTINGS.period), self.clock)
        self.loop.ticking.set()
        self.source = ChunkSource(PUBLISHER_TIMEOUT)
        self.controlling = True
        self.run(2 * SETTINGS.period)

    def kill_control(self) -> None:
        """The arm node is no more."""
        self.controlling = False
        self.driver.close()

    def kill_policy(self) -> None:
        """The policy node is no more."""
        self.policy_alive = False

    def _connect(self) -> None:
        """The driver's own thread hears the arm; simulated time stands still meanwhile, once the arm has said all."""
        self._steps += round(_CONNECTING / STEP)
        self.now = _BEGIN + self._steps * STEP
        connected = threading.Event()

        def answer() -> None:
            moments = iter([self.now - STEP])  # what comes first only counts with what comes after it
            while not connected.wait(0.001):
                if self.driver.listening:
                    self.arm.step(next(moments, self.now))

        answering = threading.Thread(target=answer)
        answering.start()
        try:
            self.driver.connect()
        finally:
            connected.set()
            answering.join()

    def receive_chunk(self, message: JointTrajectory, publisher: str) -> None:
        """A chunk comes to the arm node, published by a node of this name."""
        if not self.controlling:
            return
        self.refused_chunk = self.source.refusal(publisher, self.clock())
        if self.refused_chunk is not None:
            return
        try:
            self.loop.offer(converters.chunk(message))
        except BadInput as error:
            self.refused_chunk = str(error)

    def _on_heartbeat(self, message: DiagnosticArray) -> None:
        if self.controlling:
            for name, stamp in heartbeat.signs_of_life(message).items():
                self.loop.heard(name, stamp)

    # Time.

    def clock(self) -> float:
        """What the host's clock shows, in [s]."""
        return self.now + self.clock_error

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let ``seconds`` pass, or less, if ``until`` comes true after some control period; whether it did."""
        for _ in range(round(seconds / STEP)):
            self._step()
            if until is not None and until():
                return True
        return False

    def _step(self) -> None:
        self._steps += 1
        self.now = _BEGIN + self._steps * STEP
        self.arm.step(self.now)
        if self.controlling:
            self.driver.listen()
        for stream in (*self.images.values(), self.joints, self.chunks, self.heartbeats):
            stream.step(self.now)
        if self._beat(CAMERA_PERIOD):
            for stream in self.images.values():
                message = CompressedImage(format="jpeg", data=self._picture)
                message.header.stamp = converters.stamp(self.clock())
                stream.send(message, self.now)
        if self.policy_alive:
            self.thinking.step(self.now)
            self.policy_alive = not self.thinking.failed
        if self.policy_alive and self._beat(HEARTBEAT_PERIOD):
            line = self.inference.idle_because or ""
            self.heartbeats.send(heartbeat.message("policy", self.clock(), line, self._observations.stamps()), self.now)
        if self.controlling and self._beat(SETTINGS.period) and self.now >= self.stalled_until:
            self.loop.period(self.now)
            measured = self.driver.feedback()
            if measured is not None:
                self.joints.send(converters.joint_state(measured.stamp, JOINT_NAMES, measured.positions), self.now)

    def _beat(self, period: float) -> bool:
        return self._steps % round(period / STEP) == 0

    # The user, and what he sees.

    @property
    def state(self) -> str:
        """What the arm node says the arm is doing."""
        assert self.loop.latest is not None
        return self.loop.latest.state.name

    @property
    def reason(self) -> str:
        """Why."""
        assert self.loop.latest is not None
        return self.loop.latest.reason

    def ask(self, request: Request) -> str | None:
        """One request to the arm node; why it was refused, or None."""
        answer = self.loop.ask(request)
        self.run(SETTINGS.period)
        return answer.result(0)

    def enable(self) -> None:
        """Power the arm, and wait until it holds."""
        assert self.ask(ArmController.request_enable) is None
        self.enabled += 1
        assert self.run(1.0, lambda: self.state == ArmState.HOLDING.name)

    def track(self) -> None:
        """Start everything, and wait until the arm follows the policy."""
        self.start_control()
        self.enable()
        assert self.ask(ArmController.request_resume) is None
        assert self.run(1.0, lambda: self.state == ArmState.TRACKING.name)

    def close(self) -> None:
        """End every thread."""
        if self.controlling:
            self.kill_control()
        self.thinking.end()
        self.bus.shutdown()


def _nothing() -> None: ...


class _Thinker:
    """The policy node's way from an observation to targets, which takes simulated time."""

    def __init__(self, world: World, policy: Policy, space: ArmSpace) -> None:
        self._world, self._policy, self._space = world, policy, space

    def set_task(self, task: str) -> None:
        self._policy.set_task(task)

    def infer(self, snapshot: Snapshot[CompressedImage], previous: PreviousChunk | None) -> Answer:
        self._world.thinking.wait(self._world.now + INFERENCE)
        self._world.engine.observed = snapshot.stamp
        images = {camera: converters.rgb_from_compressed(message) for camera, message in snapshot.images.items()}
        actions = self._policy.infer(Observation(images, self._space.state(snapshot.state)), previous=previous)
        return Answer(actions, self._space.targets(actions, snapshot.state))


class _SteppedEvent(threading.Event):
    """An event that is never set, and waits in simulated time."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def wait(self, timeout: float | None = None) -> bool:
        self._world.thinking.wait(self._world.now + (timeout or 0.0))
        return False


class _SteppedBuffer(ObservationBuffer[CompressedImage]):
    """Waits in simulated time."""

    def __init__(self, cameras: tuple[str, ...], matching: Matching, world: World) -> None:
        super().__init__(cameras, matching)
        self._world = world

    def wait_fresh(self, timeout: float) -> bool:
        def fresh() -> bool:
            return super(_SteppedBuffer, self).wait_fresh(0.0)

        self._world.thinking.wait(self._world.now + timeout, fresh)
        return fresh()
