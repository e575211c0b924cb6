"""A greedy, resumable search over how far to turn each of a few knobs: least error at a given cost."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from vla_runtime.errors import BadInput, WorkFailed

Plan = Mapping[str, int]


class Point(BaseModel):
    """One plan that was tried. plan: how many notches each knob is turned. cost: as a fraction of that of no notch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: dict[str, int]
    cost: float
    error: float


class SearchResult(BaseModel):
    """What a search found. tried: every plan, in order. front: those of which no other has both less cost and less
    error, from the dearest. pick: the one of least error whose cost is no more than ``target``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: float
    tried: tuple[Point, ...]
    front: tuple[Point, ...]
    pick: Point


class _State(BaseModel):
    """The whole of a search's state file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    tried: tuple[Point, ...]


def search(
    knobs: Mapping[str, int],
    measure: Callable[[Plan], tuple[float, float]],
    target: float,
    state: Path,
    identity: str,
    progress: Callable[[float], None] | None = None,
) -> SearchResult:
    """Turn knobs, notch by notch, until the cost is ``target`` or less.

    knobs: by name, how many notches it has. measure: a plan → its cost as a fraction, 1 for no notch, and its error.

    Every step turns each knob until the cost falls, mostly by one notch. Of those that reach the target the one of
    least error is taken; where none does, the one whose error grows least for the cost it saves. At the end knobs are
    turned back for as long as that lessens the error and the target holds. Greedy steps are the best plan where every
    knob adds its own error, each notch no less than the one before, and saves its own cost (Fox 1966,
    doi 10.1287/mnsc.13.3.210); elsewhere they are a good one.

    state: where every measurement is written as soon as it is made, and where those of an interrupted search are read
    from instead of being made again, whatever its target was. identity: what the measurements depend on; one of
    another identity is refused. progress: called after every measurement with how far the way to the target is done.

    Raises `BadInput` for a state file of another search or of something else, and `WorkFailed` where no notch is left
    and the target not reached.
    """
    tried = _Tried(measure, state, identity)
    plan = dict.fromkeys(knobs, 0)
    here = tried(plan)
    while here.cost > target:
        cheaper = []
        for knob, notches in knobs.items():
            for more in range(1, notches - here.plan[knob] + 1):
                ahead = tried(_turned(here, knob, more))
                if progress is not None:
                    progress((1.0 - here.cost) / (1.0 - target))
                if ahead.cost < here.cost:
                    cheaper.append(ahead)
                    break
        if not cheaper:
            raise WorkFailed(
                f"the smallest policy that can be reached costs {here.cost:.0%} of the whole; ask for more"
            )
        here = _step(here, cheaper, target)
    while back := _better(here, [tried(_turned(here, knob, -1)) for knob in knobs if here.plan[knob] > 0], target):
        here = back
    if progress is not None:
        progress(1.0)
    points = tried.points()
    pick = min((point for point in points if point.cost <= target), key=lambda point: (point.error, point.cost))
    return SearchResult(target=target, tried=points, front=front(points), pick=pick)


def front(points: Sequence[Point]) -> tuple[Point, ...]:
    """Those of which no other costs no more and errs less, from the dearest."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, point.error)):
        if not found or point.error < found[-1].error:
            found.append(point)
    return tuple(reversed(found))


def _step(here: Point, cheaper: Sequence[Point], target: float) -> Point:
    there = [point for point in cheaper if point.cost <= target]
    if there:
        return min(there, key=lambda point: point.error)
    return min(cheaper, key=lambda point: (point.error - here.error) / (here.cost - point.cost))


def _better(here: Point, back: Sequence[Point], target: float) -> Point | None:
    better = [point for point in back if point.cost <= target and point.error < here.error]
    return min(better, key=lambda point: point.error) if better else None


def _turned(point: Point, knob: str, notches: int) -> Plan:
    return point.plan | {knob: point.plan[knob] + notches}


class _Tried:
    """What has been measured so far, in memory and on disk."""

    def __init__(self, measure: Callable[[Plan], tuple[float, float]], path: Path, identity: str) -> None:
        self._measure, self._path, self._identity = measure, path, identity
        self._points = {_key(point.plan): point for point in _read(path, identity)}
        self._visited: dict[str, Point] = {}

    def __call__(self, plan: Plan) -> Point:
        key = _key(plan)
        if key not in self._points:
            cost, error = self._measure(plan)
            self._points[key] = Point(plan=dict(plan), cost=cost, error=error)
            self._write()
        self._visited[key] = self._points[key]
        return self._points[key]

    def points(self) -> tuple[Point, ...]:
        """Of this search and, where there are any, of earlier ones of the same identity."""
        return tuple((self._visited | self._points).values())

    def _write(self) -> None:
        state = _State(identity=self._identity, tried=tuple(self._points.values()))
        partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        partial.write_text(state.model_dump_json(indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self._path)


def _read(path: Path, identity: str) -> tuple[Point, ...]:
    if not path.exists():
        return ()
    try:
        state = _State.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInput(f"{path} is no state of a search: delete it to begin anew") from error
    if state.identity != identity:
        raise BadInput(f"{path} is the state of another search ({state.identity}): delete it to begin anew")
    return state.tried


def _key(plan: Plan) -> str:
    return json.dumps(dict(plan), sort_keys=True)
