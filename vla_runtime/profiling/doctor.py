"""vla-doctor: what this machine can do, and for each thing it cannot, the command that mends it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vla_runtime import command
from vla_runtime.profiling.machine import board, gpu_name

_ARPHRD_CAN = "280"  # linux/if_arp.h
_CAP_SYS_NICE = 23  # linux/capability.h
_PYTHONS = ((3, 10), (3, 12))
_GPU_REMEDY = "where an NVIDIA GPU is built in: sudo ubuntu-drivers install"


@dataclass(frozen=True)
class Finding:
    """One thing a robot needs: whether it is there, what was found, and what mends it when it is not."""

    name: str
    ok: bool
    found: str
    remedy: str | None = None


def main() -> int:
    """The command; always 0: a report about a machine is not a failure of the report."""
    parser = command.Parser(prog="vla-doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON array instead of a table")
    return command.run(lambda: _report(parser.parse_args().json))


def examine() -> Iterator[Finding]:
    """Every finding about this machine, in the order a newcomer needs them."""
    yield python(sys.version_info[:2])
    yield gpu(gpu_name())
    yield onnx_runtime()
    yield from tensorrt()
    yield ros(os.environ.get("ROS_DISTRO"), importlib.util.find_spec("rclpy") is not None)
    yield piper_sdk(importlib.util.find_spec("piper_sdk") is not None)
    yield can(Path("/sys/class/net"))
    yield cameras(Path("/dev"))
    yield realtime(Path("/proc/self/status"), resource.getrlimit(resource.RLIMIT_RTPRIO)[0])


def python(version: tuple[int, ...]) -> Finding:
    """The interpreter's version."""
    lowest, highest = _PYTHONS
    return Finding(
        "Python",
        lowest <= version <= highest,
        platform.python_version(),
        f"install Python {highest[0]}.{highest[1]}: uv python install {highest[0]}.{highest[1]}",
    )


def gpu(name: str | None) -> Finding:
    """An NVIDIA GPU with a working driver."""
    return Finding("GPU", name is not None, name or "none found", _GPU_REMEDY)


def onnx_runtime() -> Finding:
    """ONNX Runtime and where it can compute."""
    import onnxruntime

    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return Finding("ONNX Runtime", True, f"{onnxruntime.__version__}: {', '.join(providers)}")


def tensorrt() -> Iterator[Finding]:
    """TensorRT or TensorRT-RTX: building engines needs no GPU, running them does."""
    from vla_runtime.engines import tensorrt as engine

    jetson = "jetson" in (board() or "").lower()
    install = "sudo apt install tensorrt python3-libnvinfer" if jetson else "pip install 'vla-deploy[tensorrt]'"
    no_build, no_run = engine.available(), engine.can_run()
    yield Finding("TensorRT build", no_build is None, no_build or "yes", install)
    yield Finding("TensorRT run", no_run is None, no_run or "yes", install if no_build else _GPU_REMEDY)


def ros(distribution: str | None, rclpy: bool) -> Finding:
    """ROS 2's Python client."""
    return Finding(
        "ROS 2",
        rclpy,
        f"{distribution or 'rclpy from pip'}" if rclpy else "rclpy not found",
        "source /opt/ros/$ROS_DISTRO/setup.bash, or without a ROS installation pip install 'vla-deploy[ros]'",
    )


def piper_sdk(installed: bool) -> Finding:
    """The arm's driver."""
    return Finding("PiPER SDK", installed, "yes" if installed else "not installed", "pip install 'vla-deploy[piper]'")


def can(interfaces: Path) -> Finding:
    """A CAN interface that is up; PiPER speaks at 1 Mbit/s."""
    found = sorted(
        entry.name
        for entry in (interfaces.iterdir() if interfaces.is_dir() else ())
        if (entry / "type").is_file() and (entry / "type").read_text().strip() == _ARPHRD_CAN
    )
    down = [name for name in found if not int((interfaces / name / "flags").read_text(), 16) & 1]
    if not found:
        return Finding("CAN", False, "no interface", "plug in the USB-CAN adapter, then sudo modprobe gs_usb")
    return Finding(
        "CAN",
        len(down) < len(found),
        ", ".join(f"{name} ({'down' if name in down else 'up'})" for name in found),
        f"sudo ip link set {found[0]} up type can bitrate 1000000",
    )


def cameras(devices: Path) -> Finding:
    """Video devices this user may open."""
    found = sorted(devices.glob("video*"))
    usable = [path for path in found if os.access(path, os.R_OK | os.W_OK)]
    if not found:
        return Finding("cameras", False, "no /dev/video*", "plug in a camera")
    return Finding(
        "cameras",
        bool(usable),
        ", ".join(path.name if path in usable else f"{path.name} (no permission)" for path in found),
        "sudo usermod -aG video $USER, then log in again",
    )


def realtime(status: Path, priority_limit: int) -> Finding:
    """Whether the control loop may ask for SCHED_FIFO: by capability or by the user's limit."""
    capabilities = 0
    for line in status.read_text().splitlines() if status.is_file() else ():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
    allowed = bool(capabilities >> _CAP_SYS_NICE & 1) or priority_limit != 0
    return Finding(
        "realtime scheduling",
        allowed,
        "SCHED_FIFO allowed" if allowed else "SCHED_FIFO not allowed",
        'echo "$USER - rtprio 80" | sudo tee /etc/security/limits.d/vla.conf, then log in again',
    )


def _report(as_json: bool) -> int:
    findings = list(examine())
    if as_json:
        print(json.dumps([{**asdict(f), "remedy": None if f.ok else f.remedy} for f in findings], indent=2))
        return command.DONE
    console = Console(markup=False, highlight=False)
    table = Table("", "what", "found")
    for finding in findings:
        mark = Text("✓", style="green") if finding.ok else Text("–", style="yellow")
        table.add_row(mark, finding.name, finding.found)
    console.print(table)
    for finding in findings:
        if not finding.ok:
            console.print(f"{finding.name}: {finding.remedy}", soft_wrap=True)  # a wrapped command cannot be copied
    return command.DONE
