"""The way to rest, as fast as acceleration and jerk allow."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple


class Braking(NamedTuple):
    """One axis from a velocity and an acceleration to rest in the least time.

    Three phases of constant jerk: the acceleration goes to its peak, stays there, and goes back to zero. Units of the
    axis, [rad] or [m], and [s].

    sign: the direction in which velocity would be left over if the acceleration went to zero at once, 1 or -1.
    speed, push: velocity and acceleration at the start, along ``sign``. jerk: of the first and the last phase.
    peak: the largest deceleration. rising, steady, falling: how long the phases last.
    """

    sign: float
    speed: float
    push: float
    jerk: float
    peak: float
    rising: float
    steady: float
    falling: float

    @property
    def duration(self) -> float:
        """Time to rest."""
        return self.rising + self.steady + self.falling

    @property
    def stop(self) -> float:
        """Where it comes to rest, from where it starts."""
        t, peak = self.rising, self.peak
        way = t * (self.speed + t * (self.push / 2 - t * self.jerk / 6))
        speed = self.speed + t * (self.push - t * self.jerk / 2)
        return self.sign * (way + self.steady * (speed - self.steady * peak / 2) + peak * self.falling**2 / 6)

    @property
    def span(self) -> tuple[float, float]:
        """The least and the greatest it goes on the way, from where it starts."""
        end, back = self.sign * self.stop, 0.0
        if self.speed < 0.0:  # it moves against ``sign`` and is pushed along it: it turns round before it stops
            t = (self.push - sqrt(max(self.push**2 + 2 * self.jerk * self.speed, 0.0))) / self.jerk
            back = t * (self.speed + t * (self.push / 2 - t * self.jerk / 6))
        least, most = min(back, end, 0.0), max(end, 0.0)
        return (least, most) if self.sign > 0.0 else (-most, -least)

    def at(self, time: float) -> tuple[float, float, float]:
        """How far it has gone, its velocity and acceleration after ``time``; at rest from the end on."""
        if time >= self.duration:
            return self.stop, 0.0, 0.0
        t = min(time, self.rising)
        way = t * (self.speed + t * (self.push / 2 - t * self.jerk / 6))
        speed = self.speed + t * (self.push - t * self.jerk / 2)
        push = self.push - t * self.jerk
        t = min(max(time - self.rising, 0.0), self.steady)
        way += t * (speed - t * self.peak / 2)
        speed -= t * self.peak
        t = max(time - self.rising - self.steady, 0.0)
        way += t * (speed - t * (self.peak / 2 - t * self.jerk / 6))
        speed -= t * (self.peak - t * self.jerk / 2)
        push += t * self.jerk
        return self.sign * way, self.sign * speed, self.sign * push


def braking(velocity: float, acceleration: float, against: tuple[float, float], jerk: float) -> Braking:
    """The way to rest with at most ``jerk`` and the decelerations ``against`` positive and negative velocity.

    An acceleration beyond them goes back to them, not at once. (The stop of a third-order system: Kröger, *On-Line
    Trajectory Generation in Robotic Systems*, Springer 2010.)
    """
    left_over = velocity + acceleration * abs(acceleration) / (2.0 * jerk)
    sign, limit = (1.0, against[0]) if left_over >= 0.0 else (-1.0, against[1])
    speed, push = sign * velocity, sign * acceleration
    square = max(jerk * speed + push * push / 2.0, 0.0)
    peak, steady = sqrt(square), 0.0
    limit = max(limit, -push)
    if peak > limit:
        peak, steady = limit, square / (jerk * limit) - limit / jerk
    return Braking(sign, speed, push, jerk, peak, max(push + peak, 0.0) / jerk, steady, peak / jerk)
