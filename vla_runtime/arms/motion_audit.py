"""How fast and how hard a sequence of targets asks one coordinate to move."""

from __future__ import annotations

_PAUSE = 0.1  # [s], or five periods; after so long without a target the arm has come to rest at the last
_INTERVAL = 0.01  # [s], taken for the first step's where none is known


class MotionAudit:
    """The fastest and the hardest motion between successive targets of one coordinate.

    Both are divided differences: the step over the time since the target before, and twice the change of that over the
    time of both steps. The first step, and one after a pause, starts from rest.

    In simulated time the times of arrival are the sender's, and nothing else is needed. On a real clock a millisecond
    of jitter between two targets would be a great acceleration; so where the sender's ``period`` is given, no time is
    taken for shorter than it, and accelerations are judged as if every target had come on its beat. Then a step that is
    longer because its period was, counts for harder than it is, and a burst for what it was meant to be.

    A target is rounded to a whole step of the wire, which alone is worth a step per period and four per period squared.

    fastest: the greatest speed asked, in the coordinate's unit per [s].
    hardest: the greatest acceleration asked, per [s²].
    """

    def __init__(self, period: float | None) -> None:
        """``period``: between two targets as the sender means it, in [s]; None to believe the times of arrival."""
        self._period = period
        self._pause = _PAUSE if period is None else max(_PAUSE, 5 * period)
        self._interval = _INTERVAL if period is None else period
        self._speed = 0.0
        self._last: tuple[float, float] | None = None
        self.fastest = 0.0
        self.hardest = 0.0

    def rest(self, position: float) -> None:
        """The coordinate rests at ``position``: the next target starts from there."""
        self._last = (-float("inf"), position)

    def target(self, time: float, position: float) -> None:
        """Count a target that came at ``time`` in [s]."""
        before, start = (-float("inf"), position) if self._last is None else self._last
        gap, previous = time - before, self._interval
        if gap > self._pause:
            gap, self._speed = previous, 0.0
        interval = gap if self._period is None else self._period
        if interval <= 0:  # said twice at once
            if position != start:
                self.fastest = self.hardest = float("inf")
            return
        speed = (position - start) / interval
        self.fastest = max(self.fastest, abs(position - start) / max(gap, interval))
        self.hardest = max(self.hardest, 2 * abs(speed - self._speed) / (interval + previous))
        self._speed, self._interval, self._last = speed, interval, (time, position)
