"""The most memory that a process and its children ever held, as the kernel counts it."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.02  # seconds between two looks


@dataclass(frozen=True)
class PeakMemory:
    """In bytes. resident: everything in memory, files mapped into it included, which the kernel can drop at any time;
    of the process alone, exact (VmHWM). anonymous: what cannot be dropped, of the whole process tree, sampled.
    """

    resident: int
    anonymous: int


def run(command: Sequence[str], environment: dict[str, str]) -> tuple[str, PeakMemory]:
    """Run a command to its end; returns what it printed and its peaks. Raises `CalledProcessError`."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        peaks = {"VmHWM": 0, "RssAnon": 0}
        watch = threading.Thread(target=_watch, args=(process, peaks))
        watch.start()
        printed, _ = process.communicate()
        watch.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed)
    return printed, PeakMemory(peaks["VmHWM"], peaks["RssAnon"])


def _watch(process: subprocess.Popen[str], peaks: dict[str, int]) -> None:
    while process.returncode is None:
        anonymous = sum(_status(pid).get("RssAnon", 0) for pid in _tree(process.pid))
        peaks["VmHWM"] = max(peaks["VmHWM"], _status(process.pid).get("VmHWM", 0))
        peaks["RssAnon"] = max(peaks["RssAnon"], anonymous)
        time.sleep(INTERVAL)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in children.read_text().split():
                yield from _tree(int(child))


def _status(pid: int) -> dict[str, int]:
    """Sizes in bytes from /proc/PID/status; none of a process that has gone."""
    try:
        content = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", content, re.MULTILINE)}
