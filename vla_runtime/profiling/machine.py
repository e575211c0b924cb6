"""What machine a measurement was made on: the header every report carries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "vla-deploy",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "torch",
    "opencv-python-headless",
)


@dataclass(frozen=True)
class Machine:
    """cores: those this process may use. gpu: name and driver, None without one. packages: version by name."""

    cpu: str
    cores: int
    gpu: str | None
    system: str
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """Look at the machine this runs on."""
    return Machine(
        cpu=_cpu(Path("/proc")),
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu_name(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        packages=_versions(),
    )


def board(proc: Path = Path("/proc")) -> str | None:
    """The board's name where firmware gives one, as on every Jetson: ``NVIDIA Jetson AGX Orin Developer Kit``."""
    model = proc / "device-tree" / "model"
    return model.read_text(encoding="utf-8").strip("\0 \n") if model.is_file() else None


def gpu_name() -> str | None:
    """The first NVIDIA GPU and its driver, or None; on a Jetson the board's name stands for its GPU."""
    if (name := board()) is not None and "jetson" in name.lower():
        return name
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = answer.stdout.strip().splitlines()
    if answer.returncode != 0 or not lines:
        return None
    name, _, driver = lines[0].partition(", ")
    return f"{name} (driver {driver})"


def _cpu(proc: Path) -> str:
    """The model name; ARM kernels give none in cpuinfo, there the board says more."""
    cpuinfo = proc / "cpuinfo"
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return board(proc) or platform.machine()


def _versions() -> dict[str, str]:
    installed = {}
    for package in _PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed
