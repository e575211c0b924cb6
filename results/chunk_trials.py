"""Episodes in which chunks come late, in several processes; what is finished is kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.progress import track

from benchmarks.chunk_pilot import ChunkPilot
from benchmarks.chunk_rollout import RATE, Rollout, roll_out
from benchmarks.chunk_strategies import STRATEGIES
from benchmarks.chunks import jerks
from results.belt import Belt
from vla_evaluation.pilot import picture_size
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import WorkFailed
from vla_runtime.sim.episode import Episode

TASK = "lift"


class Trial(BaseModel):
    """One episode to run. speed: of the belt, in [m/s]. latency: from an observation to its chunk, in [s]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float
    latency: float
    strategy: str
    seed: int


class TrialOutcome(BaseModel):
    """What came of it.

    succeeded_at: when the cube was first lifted, in [s]; None where never.
    squares, jerks: sum of the squared jerk of the six joints' targets in [rad²/s⁶], and of how many values, in the
        0.2 s after a takeover, until the cube was lifted or the time was up.
    off: how far each new chunk was from what was asked until it came, largest over the joints, in [rad].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: Trial
    succeeded_at: float | None
    squares: float
    jerks: int
    off: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """The trials to run on one bundle, for ``seconds`` of simulated time each."""

    bundle: Path
    seconds: float
    trials: tuple[Trial, ...]


def run_trials(plan: Plan, kept: Path, workers: int) -> list[TrialOutcome]:
    """Every trial of the plan, in the plan's order; those in the file ``kept`` are not run again.

    Raises what a trial raised, after those under way have ended; `WorkFailed` where a process died.
    """
    found = {outcome.trial: outcome for outcome in _read(kept)}
    missing = [trial for trial in plan.trials if trial not in found]
    if missing:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("a", encoding="utf-8") as file:
            for outcome in track(_run_all(plan, missing, workers), "episodes", len(missing), console=_console()):
                file.write(outcome.model_dump_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
                found[outcome.trial] = outcome
    return [found[trial] for trial in plan.trials]


def _console() -> Console:
    return Console(stderr=True)


def _read(kept: Path) -> list[TrialOutcome]:
    """Whole lines only: what an interruption left of the last one is cut off."""
    if not kept.is_file():
        return []
    text = kept.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        partial = kept.with_name(f".{kept.name}.partial")
        partial.write_text(whole, encoding="utf-8")
        partial.replace(kept)
    return [TrialOutcome.model_validate_json(line) for line in whole.splitlines()]


def _run_all(plan: Plan, trials: Sequence[Trial], workers: int) -> Iterable[TrialOutcome]:
    # Neither OpenGL nor ONNX Runtime outlives a fork.
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawning, initializer=_start, initargs=(plan,))
    try:
        for future in as_completed([pool.submit(_run, trial) for trial in trials]):
            yield future.result()
    except BrokenProcessPool as error:
        raise WorkFailed(
            "a process that ran episodes died, perhaps for want of memory: run the same command again with fewer "
            "--workers; finished episodes are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Laboratory:
    """One process's means to run trials: an engine opened once, one episode that becomes each trial's own."""

    def __init__(self, plan: Plan) -> None:
        bundle = Bundle.open(plan.bundle)
        engine = OnnxRuntimeEngine(bundle, "fp32", threads=1)
        self._seconds = plan.seconds
        self._strategies = {strategy.name: strategy for strategy in STRATEGIES}
        self._pilots = {name: ChunkPilot(bundle, engine, one.rtc) for name, one in self._strategies.items()}
        self._episode = Episode(TASK, 0, image_size=picture_size(bundle.manifest))

    def run(self, trial: Trial) -> TrialOutcome:
        episode, pilot = self._episode, self._pilots[trial.strategy]
        episode.restart(trial.seed)
        pilot.begin(episode.instruction, trial.seed, trial.latency)
        takeover = self._strategies[trial.strategy].takeover
        scene = Belt(episode, trial.speed)
        rollout = roll_out(episode, pilot.answer, takeover, trial.latency, self._seconds, scene)
        return outcome_of(trial, rollout, episode.succeeded_at)


_laboratory: _Laboratory


def _start(plan: Plan) -> None:
    global _laboratory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for us decides
    _laboratory = _Laboratory(plan)


def _run(trial: Trial) -> TrialOutcome:
    return _laboratory.run(trial)


def outcome_of(trial: Trial, rollout: Rollout, succeeded_at: float | None) -> TrialOutcome:
    """A rollout in figures, until the cube was lifted: what the arm does later depends on whether it was."""
    if succeeded_at is not None:
        rollout = _until(rollout, succeeded_at)
    near, _ = jerks(rollout)
    return TrialOutcome(
        trial=trial,
        succeeded_at=succeeded_at,
        squares=float(np.sum(near**2)),
        jerks=near.size,
        off=tuple(round(border.off, 6) for border in rollout.borders),
    )


def _until(rollout: Rollout, end: float) -> Rollout:
    return Rollout(
        succeeded=rollout.succeeded,
        begins=rollout.begins,
        targets=rollout.targets[: max(0, round((end - rollout.begins) * RATE) + 1)],
        borders=[border for border in rollout.borders if border.at <= end],
    )
