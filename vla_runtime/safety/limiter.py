"""The last arithmetic before the bus: position, velocity, acceleration and jerk."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.braking import braking
from vla_runtime.safety.command_motion import AxisMotion, CommandMotion, brake
from vla_runtime.safety.interventions import (
    ACCELERATION_LIMIT,
    JERK_LIMIT,
    NON_FINITE,
    POSITION_LIMIT,
    VELOCITY_LIMIT,
)
from vla_runtime.safety.limits import ArmLimits

_ROUNDING = 1.0 + 1e-9
_NEARLY = 0.999
_TOUCH = 1e-12  # [rad] or [m]
_SEARCH = 10  # steps of the search for an acceleration; each at least halves what is left every other time
_MET = 1e-7  # [rad] or [m], a hundredth of what the arm can be told


class Limiter:
    """Turns what is desired into what may be sent next, each axis for itself; a pure function of the motion so far.

    It keeps two promises about the positions it gives, whatever is desired and however long the periods are:

    - their velocity, acceleration and jerk as `differences` defines them stay within the limits, and the positions
      within theirs;
    - at any moment the braking path from the motion ends within the position limits, so that the arm can always be
      brought to rest by following it, in periods of any length.

    A desired position that keeps both promises is given as it is, bit for bit. It is then taken for the end of the
    parabola through the last three positions, whose slope and bend begin the braking path; parabola and path have a
    continuous second derivative, which is why samples of both, at any times, keep the first promise. Any other desired
    position is approached with the jerk for which braking would end, relative to the moving target, exactly at it: the
    full jerk while the target is far, then the braking path itself, so that it arrives without overshoot.
    """

    def __init__(self, limits: ArmLimits) -> None:
        rows = zip(
            *(getattr(limits, name).tolist() for name in ("lower", "upper", "velocity", "acceleration", "jerk")),
            strict=True,
        )
        self._axes = tuple(_Axis(lower, upper, v, a, j, brake(v, a, a, j).stop) for lower, upper, v, a, j in rows)

    def step(
        self, motion: CommandMotion, desired: NDArray[np.float64] | None, dt: float
    ) -> tuple[CommandMotion, tuple[str, ...]]:
        """The motion at the next command and the kinds of intervention it took (`vla_runtime.safety.interventions`).

        A motion that is outside the position limits, or cannot stop before them, moves towards them and never further
        out than braking takes it. Nothing desired, or a desired position that is not finite, brakes to rest. A ``dt``
        that is not finite or not positive changes nothing.

        desired: joints in [rad], gripper in [m]. Shape (7,). dt: time since the command before, in [s].
        Raises ValueError where the motion has no finite position: there is then nothing to hold.
        """
        if not all(isfinite(axis.position) for axis in motion.axes):
            raise ValueError(f"the previous command must be finite, got {motion.positions}")
        kinds = set()
        targets: list[float] | list[None] = [None] * len(self._axes)
        if desired is not None and not np.isfinite(desired).all():
            kinds.add(NON_FINITE)
        elif desired is not None:
            targets = desired.tolist()
        if not (isfinite(dt) and dt > 0):
            return motion, tuple(kinds)
        stepped = []
        for axis, now, target in zip(self._axes, motion.axes, targets, strict=True):
            if target is None:
                stepped.append(axis.rest(now, motion.intervals, dt))
                continue
            allowed = min(max(target, axis.lower), axis.upper)
            if allowed != target:
                kinds.add(POSITION_LIMIT)
            after = axis.follow(now, motion.intervals, allowed, dt)
            if after is None:
                after = axis.approach(now, motion.intervals, allowed, dt)
                kinds.add(axis.held_back_by(after))
            stepped.append(after)
        return CommandMotion(tuple(stepped), (dt, motion.intervals[0])), tuple(k for k in _ORDER if k in kinds)


_ORDER = (NON_FINITE, POSITION_LIMIT, VELOCITY_LIMIT, ACCELERATION_LIMIT, JERK_LIMIT)


class _Axis(NamedTuple):
    """The limits of one axis, and what keeps a motion within them.

    longest: no braking path within the limits is longer.
    """

    lower: float
    upper: float
    velocity: float
    acceleration: float
    jerk: float
    longest: float

    def rest(self, now: AxisMotion, intervals: tuple[float, float], dt: float) -> AxisMotion:
        """Along the braking path; from outside the position limits, back to them."""
        if self.lower <= now.position <= self.upper:
            return self._brake(now, intervals, dt)
        return self.approach(now, intervals, min(max(now.position, self.lower), self.upper), dt)

    def follow(self, now: AxisMotion, intervals: tuple[float, float], target: float, dt: float) -> AxisMotion | None:
        """Exactly to ``target``; None where that breaks a promise."""
        mean = (target - now.position) / dt
        acceleration = 2.0 * (mean - now.mean_velocity) / (dt + intervals[0])
        jerk = 3.0 * (acceleration - now.mean_acceleration) / (dt + intervals[0] + intervals[1])
        velocity = mean + acceleration * dt / 2.0
        path = brake(velocity, acceleration, self.acceleration, self.jerk)
        low, high = path.span
        asked = None if now.target is None else (target - now.target) / dt
        after = AxisMotion(
            target, velocity, acceleration, mean, acceleration, target + low, target + high, target, asked
        )
        kept = (
            abs(mean) <= self.velocity * _ROUNDING
            and self._can_slow(velocity, acceleration)
            and abs(acceleration) <= self.acceleration * _ROUNDING
            and abs(jerk) <= self.jerk * _ROUNDING
            and self._can_stop(after, now)
            and self._stays(after, now, intervals[0], dt)
        )
        return after if kept else None

    def held_back_by(self, after: AxisMotion) -> str:
        """The limit at which the axis moves, for one that does not meet its target."""
        if abs(after.mean_velocity) >= self.velocity * _NEARLY:
            return VELOCITY_LIMIT
        return ACCELERATION_LIMIT if abs(after.acceleration) >= self.acceleration * _NEARLY else JERK_LIMIT

    def _stays(self, after: AxisMotion, now: AxisMotion, interval: float, dt: float) -> bool:
        """Having met its target, can it go on with it? One that was there before has shown it."""
        if now.target is None or now.target == now.position:
            return True
        drift, bend = self._motion_of_target(now, interval, after.position, dt)
        mean = drift + bend * dt / 2.0
        acceleration = (mean - after.mean_velocity) / dt
        least = max(abs(acceleration - after.mean_acceleration), abs(bend - acceleration))
        return abs(acceleration) <= self.acceleration and least <= self.jerk * dt

    def approach(self, now: AxisMotion, intervals: tuple[float, float], target: float, dt: float) -> AxisMotion:
        """As near to ``target`` as the limits allow, on a way that ends there."""
        drift, bend = self._motion_of_target(now, intervals[0], target, dt)
        against = (self.acceleration + bend, self.acceleration - bend)
        found: tuple[float, float, float] | None = None
        nearest = inf

        def beyond(way: float, velocity: float, acceleration: float) -> float:
            """How far past the target braking would end after a period that ends like this.

            What the limits forbid counts as far past, or far before.
            """
            nonlocal found, nearest
            wrong = self._forbidden(now, way, velocity, acceleration, dt)
            if wrong != 0.0:
                return wrong
            end = braking(velocity - drift, acceleration - bend, against, self.jerk).stop
            miss = now.position + way + end - target
            if abs(miss) < nearest:
                found, nearest = (way, velocity, acceleration), abs(miss)
            return miss

        def steadily(acceleration: float) -> float:
            """`beyond` for the period of constant jerk that ends with this acceleration."""
            way = dt * (now.velocity + dt * (2.0 * now.acceleration + acceleration) / 6.0)
            return beyond(way, now.velocity + (now.acceleration + acceleration) / 2.0 * dt, acceleration)

        # Once braking ends at the target, the way there is the braking path itself, whose jerk changes within a period.
        before = drift - bend * dt
        way, velocity, acceleration = braking(now.velocity - before, now.acceleration - bend, against, self.jerk).at(dt)
        if abs(beyond(way + dt * (before + drift) / 2.0, velocity + drift, acceleration + bend)) > _MET:
            reach = self.jerk * dt
            if abs(now.acceleration) < reach:  # onto the velocity limit: its jerk, too, ends within the period
                ending = abs(now.acceleration) / self.jerk
                steady = now.velocity + now.acceleration * ending / 2.0
                beyond(steady * dt - now.acceleration * ending**2 / 6.0, steady, 0.0)
            least = max(now.acceleration - reach, -self.acceleration)
            _find_zero(steadily, least, min(now.acceleration + reach, self.acceleration))
        return (
            self._brake(now, intervals, dt, target)
            if found is None
            else self._moved(now, intervals, *found, target, dt)
        )

    def _brake(
        self, now: AxisMotion, intervals: tuple[float, float], dt: float, target: float | None = None
    ) -> AxisMotion:
        path = brake(now.velocity, now.acceleration, self.acceleration, self.jerk)
        way, velocity, acceleration = path.at(dt)
        return self._moved(now, intervals, way, velocity, acceleration, target, dt)

    def _moved(
        self,
        now: AxisMotion,
        intervals: tuple[float, float],
        way: float,
        velocity: float,
        acceleration: float,
        target: float | None,
        dt: float,
    ) -> AxisMotion:
        """The motion ``way`` further on, with the differences that takes."""
        position = now.position + way
        # A braking path that ends at a limit may round to beyond it.
        if self.upper < position and now.highest <= self.upper + _TOUCH:
            position = self.upper
        if position < self.lower and self.lower - _TOUCH <= now.lowest:
            position = self.lower
        mean = (position - now.position) / dt
        low, high = brake(velocity, acceleration, self.acceleration, self.jerk).span
        return AxisMotion(
            position,
            velocity,
            acceleration,
            mean,
            2.0 * (mean - now.mean_velocity) / (dt + intervals[0]),
            position + low,
            position + high,
            target,
            None if target is None or now.target is None else (target - now.target) / dt,
        )

    def _motion_of_target(self, now: AxisMotion, interval: float, target: float, dt: float) -> tuple[float, float]:
        """Velocity and acceleration of what is asked; none where no arm could move so: that is a jump, not a motion."""
        if now.target is None or now.target_velocity is None:
            return 0.0, 0.0
        mean = (target - now.target) / dt
        acceleration = 2.0 * (mean - now.target_velocity) / (dt + interval)
        velocity = mean + acceleration * dt / 2.0
        if abs(velocity) > self.velocity or abs(acceleration) > self.acceleration:
            return 0.0, 0.0
        most = self.acceleration / 2.0  # what is left is needed to gain on it
        return velocity, min(max(acceleration, -most), most)

    def _can_slow(self, velocity: float, acceleration: float) -> bool:
        """Can the velocity be kept within its limit?"""
        fastest = self.velocity * _ROUNDING
        return abs(velocity) <= fastest and abs(self._peak(velocity, acceleration)) <= fastest

    def _peak(self, velocity: float, acceleration: float) -> float:
        """The velocity at which the acceleration can be zero."""
        return velocity + acceleration * abs(acceleration) / (2.0 * self.jerk)

    def _can_stop(self, after: AxisMotion, now: AxisMotion) -> bool:
        """Does braking end inside the position limits, or no further out than it would have?"""
        return after.highest <= max(self.upper, now.highest) and after.lowest >= min(self.lower, now.lowest)

    def _forbidden(self, now: AxisMotion, way: float, velocity: float, acceleration: float, dt: float) -> float:
        """0 where the motion may go on like this; infinite, with its sign, where that is too far up or down."""
        fastest = self.velocity * _ROUNDING
        mean, peak = way / dt, self._peak(velocity, acceleration)
        if max(velocity, mean, peak) > fastest:
            return inf
        if min(velocity, mean, peak) < -fastest:
            return -inf
        position = now.position + way
        if self.lower + self.longest < position < self.upper - self.longest:
            return 0.0
        low, high = brake(velocity, acceleration, self.acceleration, self.jerk).span
        if position + high > max(self.upper, now.highest):
            return inf
        return -inf if position + low < min(self.lower, now.lowest) else 0.0


def _find_zero(increasing: Callable[[float], float], low: float, high: float) -> None:
    """Call ``increasing`` at both ends and ever nearer to where it is zero between them, by regula falsi (Illinois).

    Its values may be infinite; then the interval is halved.
    """
    below, above = increasing(low), increasing(high)
    if below >= 0.0 or above <= 0.0:
        return
    for _ in range(_SEARCH):
        if isfinite(below) and isfinite(above):
            middle = (low * above - high * below) / (above - below)
        else:
            middle = (low + high) / 2.0
        value = increasing(middle)
        if abs(value) < _MET:
            return
        if value < 0.0:
            low, below, above = middle, value, above / 2.0
        else:
            high, above, below = middle, value, below / 2.0
