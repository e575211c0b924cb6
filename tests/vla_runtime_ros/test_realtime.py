"""Asked in a process of its own, whose limits and memory nobody else has."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from vla_runtime_ros.realtime import sleep_on_time

ROOT = Path(__file__).resolve().parents[2]

LOCK = """
import resource, sys
from pathlib import Path
from vla_runtime_ros import realtime
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
realtime._may_lock_without_limit = lambda: sys.argv[2] == "allowed"
print(realtime.lock_memory() or "locked")
locked = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck"))
print(int(locked.split()[1]) > 0)
"""

FIFO = """
import os, threading
from pathlib import Path
from vla_runtime_ros.realtime import ask_for_fifo, ask_for_fifo_everywhere, leave_fifo_everywhere

def kinds():
    tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    return {(os.sched_getscheduler(task), os.sched_getparam(task).sched_priority) for task in tasks}

ending = threading.Event()
older = threading.Thread(target=ending.wait)
older.start()
print(ask_for_fifo_everywhere(3) or "granted")
newer = threading.Thread(target=ending.wait)
newer.start()
print(sorted(kinds()))
print(ask_for_fifo(4) or "granted")
print(sorted(kinds()))
leave_fifo_everywhere()
print(sorted(kinds()))
ending.set()
"""


def in_a_process(program: str, *arguments: str) -> list[str]:
    paths = f"{ROOT}:{ROOT / 'ros2_ws' / 'src' / 'vla_runtime'}"
    answer = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.splitlines()


def ask(limit: int, allowed: str) -> list[str]:
    return in_a_process(LOCK, str(limit), allowed)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 0.004))
def test_nobody_wakes_early(duration: float) -> None:
    began = time.monotonic()
    sleep_on_time(duration)
    assert time.monotonic() - began >= duration


def test_every_thread_and_its_heirs_are_on_time_or_none_and_the_remedy_said() -> None:
    everywhere, all_threads, one, threads, afterwards = in_a_process(FIFO)
    assert afterwards == "[(0, 0)]"
    if everywhere != "granted":
        assert "rtprio 3" in everywhere
        assert all_threads == threads == "[(0, 0)]"
        return
    assert all_threads == "[(1, 3)]"
    assert one == "granted"
    assert threads == "[(1, 3), (1, 4)]"


def test_under_a_limit_nothing_is_locked_and_the_remedy_said() -> None:
    answer, locked = ask(1 << 20, "refused")
    assert "the limit is 1048576 bytes" in answer
    assert "memlock unlimited" in answer
    assert locked == "False"


def test_without_a_limit_memory_is_locked_or_the_reason_said() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    answer, locked = ask(most, "allowed")
    assert (locked == "True") == (answer == "locked")
    assert answer == "locked" or "memory is not locked" in answer
