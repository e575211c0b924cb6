"""Asked in a process of its own, whose limits and memory nobody else has."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

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


def ask(limit: int, allowed: str) -> list[str]:
    paths = f"{ROOT}:{ROOT / 'ros2_ws' / 'src' / 'vla_runtime'}"
    answer = subprocess.run(
        [sys.executable, "-c", LOCK, str(limit), allowed],
        env={"PYTHONPATH": paths, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout.splitlines()


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
