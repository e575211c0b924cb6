"""Asking the operating system to run a thread on time."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path

_CAP_IPC_LOCK = 14  # linux/capability.h
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # sys/mman.h


def ask_for_fifo(priority: int) -> str | None:
    """Give the calling thread real-time scheduling (SCHED_FIFO); None where granted, else why not and what to do."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
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
