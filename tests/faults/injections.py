"""What can be done to a world, in the words of `tests.faults.cases`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.faults.case import GONE
from tests.faults.stream import Stream
from tests.faults.world import INFERENCE, World
from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_faults import refuse_sends, report_bus_off, send_garbage
from vla_runtime.errors import WorkFailed
from vla_runtime.safety.controller import ArmController
from vla_runtime_ros import converters

Injection = Callable[[World], None]


def nothing(world: World) -> None:
    """The world goes on as it was."""


def at_once(*injections: Injection) -> Injection:
    """All of them."""

    def inject(world: World) -> None:
        for one in injections:
            one(world)

    return inject


def stream(which: Callable[[World], Stream[Any]], **changes: Any) -> Injection:
    """A stream changes its ways."""

    def inject(world: World) -> None:
        for name, value in changes.items():
            assert hasattr(which(world), name)
            setattr(which(world), name, value)

    return inject


def late(which: Callable[[World], Stream[Any]], by: float) -> Injection:
    """Every message of a stream comes later than it did, in [s]; earlier where that is below 0."""

    def inject(world: World) -> None:
        which(world).delay += by

    return inject


def restamped(by: float) -> Callable[[Any], Any]:
    """A message whose stamp is off, in [s]."""

    def alter(message: Any) -> Any:
        altered = copy.copy(message)
        altered.header = copy.copy(message.header)
        altered.header.stamp = converters.stamp(converters.seconds(message.header.stamp) + by)
        return altered

    return alter


def arm(**changes: Any) -> Injection:
    """The simulated arm has these faults from now on."""

    def inject(world: World) -> None:
        for name, value in changes.items():
            assert hasattr(world.arm.faults, name)
            setattr(world.arm.faults, name, value)

    return inject


def motor(joint: int, bit: int) -> Injection:
    """This bit in the status of this joint's motor, counted from 1."""

    def inject(world: World) -> None:
        world.arm.faults.motor_bits[joint - 1] |= 1 << bit

    return inject


def motors_well(world: World) -> None:
    """No bit is set any more."""
    world.arm.faults.motor_bits[:] = [0] * 6


def bus_off(world: World) -> None:
    """The adapter goes bus-off: it says so, and then nothing passes."""
    arm(silent=True, deaf=True)(world)
    report_bus_off(world.bus)


def garbage(world: World) -> None:
    """A thousand frames that no PiPER sends."""
    send_garbage(world.bus, 1000, seed=7)


def sends_refused(world: World) -> None:
    """The driver's bus takes no frame."""
    world.mend_sends = refuse_sends(world.driver._sdk.GetCanBus().send_bus)


def sends_taken(world: World) -> None:
    """It does again."""
    world.mend_sends()


def pushed(by: float) -> Injection:
    """Joint 1 is somewhere else from now on, in [rad], and cannot be moved."""

    def inject(world: World) -> None:
        world.arm._plant = _Stuck(world.arm._plant.positions + by * np.eye(7)[0])

    return inject


def released(world: World) -> None:
    """It can be moved again, from where it is."""
    world.arm._plant = KinematicPlant(world.arm._plant.positions, max_speed=3.0)


class _Stuck:
    """A body that does not move."""

    def __init__(self, positions: NDArray[np.float64]) -> None:
        self.positions = positions
        self.velocities = np.zeros(7)

    def apply(self, targets: NDArray[np.float64], dt: float) -> None: ...


def clock_moved(by: float) -> Injection:
    """The host's clock jumps, in [s]."""

    def inject(world: World) -> None:
        world.clock_error += by

    return inject


def stalled(seconds: float) -> Injection:
    """The control loop gets no processor for so long, in [s]."""

    def inject(world: World) -> None:
        world.stalled_until = world.now + seconds

    return inject


def inference_takes(seconds: float) -> Injection:
    """Every answer takes so much longer, in [s]."""

    def inject(world: World) -> None:
        world.engine.work = lambda: world.thinking.wait(world.now + seconds)

    return inject


def engine_fails(world: World) -> None:
    """Every inference ends in an error the runtime knows."""

    def fail() -> None:
        raise WorkFailed("the device ran out of memory")

    world.engine.work = fail


def engine_breaks(world: World) -> None:
    """The next inference ends in an error nobody knows: the policy node goes down with it."""

    def fail() -> None:
        raise RuntimeError("illegal instruction")

    world.engine.work = fail


def engine_hangs(world: World) -> None:
    """The next inference never ends."""
    inference_takes(1e9)(world)


def engine_well(world: World) -> None:
    """It answers as it did."""
    world.engine.work = lambda: None
    world.engine.altered = lambda actions: actions


def actions(alter: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Injection:
    """The policy's actions (H, 7) become these."""

    def inject(world: World) -> None:
        world.engine.altered = alter

    return inject


def asking(joint: int, position: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """One coordinate, counted from 0, is asked to be there at once, in [rad] or [m]."""

    def alter(asked: NDArray[np.float64]) -> NDArray[np.float64]:
        asked[:, joint] = position
        return asked

    return alter


def everywhere(posture: Sequence[float]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """One posture is asked for throughout, in [rad] and [m]. Length 7."""
    return lambda asked: np.tile(np.array(posture), (len(asked), 1))


def extremes(asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joint 1 asked to be at one end and at the other, action by action."""
    asked[::2, 0], asked[1::2, 0] = -2.6, 2.6
    return asked


def random_actions(asked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Anything within a turn to either side, anew for every action."""
    return np.random.default_rng(int(abs(asked[0, 0]) * 1e6)).uniform(-6, 6, asked.shape)


def chunk_of(world: World, publisher: str, value: float) -> None:
    """A node publishes a chunk that asks every coordinate to be at ``value``."""
    message = converters.trajectory(world.clock(), JOINT_NAMES, np.full((16, 7), value), 10.0)
    world.receive_chunk(message, publisher)


def not_finite_chunk(world: World) -> None:
    """The policy's node itself publishes a chunk that is not finite, past all its own checks."""
    chunk_of(world, "policy", np.nan)


def second_policy(world: World) -> None:
    """Another node publishes chunks of its own between those of the policy."""
    deliver = world.heartbeats._deliver

    def also(message: Any) -> None:
        chunk_of(world, "another", 0.02)
        world.seen_refusal = world.refused_chunk
        deliver(message)

    world.heartbeats._deliver = also


def second_policy_gone(world: World) -> None:
    """It stops."""
    world.heartbeats._deliver = world._on_heartbeat


def refused_by_source(world: World) -> tuple[str, str]:
    """The arm's state, and why the other node's chunk was refused."""
    return world.state, world.seen_refusal or world.reason


def killed_policy_while_waiting(world: World) -> None:
    """SIGKILL between two inferences."""
    world.kill_policy()


def killed_policy_while_inferring(world: World) -> None:
    """SIGKILL in the middle of an inference."""
    inferred = world.inference.chunks
    world.run(1.0, lambda: world.inference.chunks > inferred)
    world.run(0.1 - INFERENCE / 2)
    world.kill_policy()


def killed_policy_after_publishing(world: World) -> None:
    """SIGKILL right after a chunk was published."""
    published = world.inference.chunks
    world.run(1.0, lambda: world.inference.chunks > published)
    world.kill_policy()


def killed_control_while(prepare: Injection) -> Injection:
    """SIGKILL of the arm node after ``prepare``."""

    def inject(world: World) -> None:
        prepare(world)
        world.kill_control()

    return inject


def hold(world: World) -> None:
    """The user asks it to hold."""
    world.ask(lambda controller, now: controller.request_hold(now, "hold requested"))
    world.run(0.5)


def park(world: World) -> None:
    """The user asks it to park."""
    assert world.ask(ArmController.request_park) is None
    world.run(0.3)


def enabling(world: World) -> None:
    """The arm lost its power, and the user has just asked for it again."""
    arm(unpowered=0b111111)(world)
    world.run(0.1)
    world.run(1.5)  # longer than requests for power must be apart
    arm(unpowered=0)(world)
    world.enabled += 1
    assert world.ask(ArmController.request_enable) is None


def on_the_bus(world: World) -> tuple[str, str]:
    """What the arm does once nobody controls it: it must rest at the last target it heard."""
    last = list(world.audit.heard.values())[-1] if world.audit.heard else world.arm._plant.positions
    off = np.abs(world.arm._plant.positions - last) - 1.5 * frames.UNITS
    if world.controlling or off.max() > 0 or np.abs(world.arm._plant.velocities).max() > 0:
        return "", ""
    return GONE, "the arm rests at its last target"
