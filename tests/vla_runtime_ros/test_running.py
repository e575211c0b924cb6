"""A node as a process: how it refuses to start, and how it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "vla_runtime"


@pytest.fixture
def environment() -> dict[str, str]:
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    domain = str(random.randrange(1, 102))
    return os.environ | {
        "PYTHONPATH": path,
        "ROS_DOMAIN_ID": domain,
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vla_runtime_ros.arm_node", "--ros-args", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("argument", ["control_rate:=1000.0", "control_rate:=fast", "chunk_timout:=0.2"])
def test_a_bad_parameter_is_one_line_and_exit_code_2(environment: dict[str, str], argument: str) -> None:
    process = start(environment, "-p", argument)
    _, errors = process.communicate(timeout=60)
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert argument.partition(":=")[0] in lines[0]
    assert "Traceback" not in errors
    assert process.returncode == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(environment: dict[str, str], number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "ros"
    process = start(environment | {"ROS_LOG_DIR": str(log)})
    deadline = time.monotonic() + 60
    while not list(log.glob("*")):  # its log appears once ROS is up
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


# Starts what it is told to, says which process that is, and is gone without a word as soon as it is told.
PARENT = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.readline()
os._exit(1)
"""


def test_the_end_of_whoever_started_it_ends_it_as_a_signal_does(environment: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "ros"
    node = [sys.executable, "-m", "vla_runtime_ros.arm_node"]
    said = (tmp_path / "said").open("w+")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *node],
        env=environment | {"ROS_LOG_DIR": str(log)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    deadline = time.monotonic() + 60
    while not list(log.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.stdin.write("\n")
    parent.stdin.close()
    parent.wait()
    while alive(pid):
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)
    said.seek(0)
    assert "Traceback" not in said.read()
    said.close()


def alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
