"""What a process held at most is found, its children's included, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.peak_memory import run

MEGABYTE = 1 << 20
HOLD = "import sys, time; held = bytearray(int(sys.argv[1]) << 20); held[::4096] = b'x' * len(held[::4096]); "


def measured(program: str, *arguments: object) -> tuple[str, float, float]:
    printed, peak = run([sys.executable, "-c", program, *map(str, arguments)], dict(os.environ))
    return printed, peak.resident / MEGABYTE, peak.anonymous / MEGABYTE


@pytest.mark.parametrize("size", [0, 100, 300])
def test_memory_that_was_given_back_counts(size: int) -> None:
    printed, resident, anonymous = measured(HOLD + "time.sleep(0.2); del held; time.sleep(0.2); print('done')", size)
    assert printed == "done\n"
    assert size <= anonymous < size + 60
    assert size <= resident < size + 90


def test_children_count_with_their_parent() -> None:
    child = (
        f"import subprocess, sys; {HOLD} subprocess.run([sys.executable, '-c', sys.argv[2], sys.argv[1]], check=True)"
    )
    _, resident, anonymous = measured(child, 100, HOLD + "time.sleep(0.3)")
    assert 200 <= anonymous < 300
    assert resident < 200


def test_mapped_files_are_resident_and_not_anonymous(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100 * MEGABYTE))
    program = (
        "import mmap, sys, time; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); "
    )
    _, resident, anonymous = measured(program + "x = sum(m[::4096]); time.sleep(0.2)", path)
    assert resident > 100
    assert anonymous < 60


def test_a_failure_is_not_measured() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        measured("raise SystemExit(3)")
