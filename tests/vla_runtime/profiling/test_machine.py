"""The header of a report."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from vla_runtime.profiling import machine
from vla_runtime.profiling.machine import board, gpu_name, this_machine


def test_this_machine() -> None:
    here = this_machine()
    assert here.cpu
    assert here.cores >= 1
    assert here.python == platform.python_version()
    assert here.packages["numpy"] == np.__version__


def test_a_jetson_is_known_by_its_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    name = board(tmp_path)
    assert name == "NVIDIA Jetson AGX Orin Developer Kit"
    monkeypatch.setattr(machine, "board", lambda: name)
    assert gpu_name() == name


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'NVIDIA GeForce RTX 4090, 580.65.06'; echo 'second, 1'", "NVIDIA GeForce RTX 4090 (driver 580.65.06)"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", None),
        ("true", None),
    ],
)
def test_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str | None) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "board", lambda: None)
    assert gpu_name() == expected
