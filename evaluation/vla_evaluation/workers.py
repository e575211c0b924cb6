"""Cases over several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from vla_evaluation.case import Case
from vla_evaluation.laboratory import Laboratory
from vla_evaluation.outcome import Outcome
from vla_evaluation.request import Request
from vla_runtime.errors import WorkFailed

_laboratory: Laboratory


def run_cases(
    request: Request, cases: Sequence[Case], workers: int, directory: Path, done: Callable[[Outcome], None]
) -> None:
    """Run every case in one of ``workers`` processes; ``done`` is called with each outcome as it comes, in this one.

    Raises what a case raised, after the cases under way have ended; `WorkFailed` where a process died.
    """
    # Neither OpenGL nor ONNX Runtime outlives a fork.
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawning, initializer=_start, initargs=(request, directory))
    try:
        for future in as_completed([pool.submit(_run, case) for case in cases]):
            done(future.result())
    except BrokenProcessPool as error:
        raise WorkFailed(
            "a process that ran episodes died, perhaps for want of memory: run the same command again with fewer "
            "--workers; finished episodes are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _start(request: Request, directory: Path) -> None:
    global _laboratory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for us decides
    _laboratory = Laboratory(request, directory)


def _run(case: Case) -> Outcome:
    return _laboratory.run(case)
