"""Asking the operating system to run a thread on time."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CAP_IPC_LOCK = 14  # linux/capability.h
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # sys/mman.h


_SPUN = 0.001
"""How much of a sleep is spun away, in [s]: longer than another thread of the process keeps the interpreter's lock, and
shorter than the 5 ms after which that lock is taken from whoever keeps it."""


def sleep_on_time(duration: float) -> None:
    """Sleep for ``duration`` [s], and wake when it is over, whatever else this process does.

    The last millisecond is spun away with the interpreter's lock held. A thread that sleeps to the end waits for that
    lock when it wakes, for as long as another one has something to do.
    """
    deadline = time.monotonic() + duration
    time.sleep(max(0.0, duration - _SPUN))
    while time.monotonic() < deadline:
        pass


def ask_for_fifo(priority: int) -> str | None:
    """Give the calling thread real-time scheduling (SCHED_FIFO); None where granted, else why not and what to do."""
    return _ask_for_fifo([0], priority)


def ask_for_fifo_everywhere(priority: int) -> str | None:
    """As `ask_for_fifo`, for every thread that this process has, and those that they start.

    Any of them may hold the interpreter's lock when the control thread wakes, and must not wait for a processor then.
    """
    return _ask_for_fifo(_own_threads(), priority)


def leave_fifo_everywhere() -> None:
    """Give every thread of this process ordinary scheduling again."""
    _schedule(_own_threads(), os.SCHED_OTHER, 0)


def _own_threads() -> list[int]:
    return [int(task.name) for task in Path("/proc/self/task").iterdir()]


def _schedule(threads: Iterable[int], policy: int, priority: int) -> None:
    for thread in threads:
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setscheduler(thread, policy, os.sched_param(priority))


def _ask_for_fifo(threads: Iterable[int], priority: int) -> str | None:
    try:
        _schedule(threads, os.SCHED_FIFO, priority)
    except PermissionError:
        return (
            "no permission for real-time scheduling, so the control period may vary under load: "
            f"give the user rtprio {priority} in /etc/security/limits.conf and log in again"
        )
    return None


def lock_memory() -> str | None:
    """Keep every page this process has or will touch in memory; None where granted, else why not and what to do.

    Under a finite limit nothing is locked: once it is reached, every further allocation of the process would fail.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit != resource.RLIM_INFINITY and not _may_lock_without_limit():
        return _refused(f"the limit is {limit} bytes")
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return _refused(os.strerror(ctypes.get_errno()))
    return None


def _refused(reason: str) -> str:
    return (
        f"memory is not locked ({reason}), so the control period may vary when memory is short: "
        "give the user memlock unlimited in /etc/security/limits.conf and log in again"
    )


def _may_lock_without_limit() -> bool:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False
