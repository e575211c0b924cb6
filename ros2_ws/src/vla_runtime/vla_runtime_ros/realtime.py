"""Asking the operating system to run a thread on time."""

from __future__ import annotations

import os


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
