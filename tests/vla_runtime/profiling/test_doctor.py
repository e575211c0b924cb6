"""vla-doctor: findings from made-up machines, and the command on this one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from vla_runtime.profiling import doctor


def interface(directory: Path, name: str, kind: int, flags: int) -> None:
    (directory / name).mkdir()
    (directory / name / "type").write_text(f"{kind}\n")
    (directory / name / "flags").write_text(f"{flags:#x}\n")


def test_no_can_interface(tmp_path: Path) -> None:
    interface(tmp_path, "eth0", 1, 0x1003)
    finding = doctor.can(tmp_path)
    assert not finding.ok
    assert "gs_usb" in str(finding.remedy)
    assert not doctor.can(tmp_path / "nowhere").ok


def test_a_can_interface_that_is_down_names_the_command(tmp_path: Path) -> None:
    interface(tmp_path, "can1", 280, 0x40080)
    finding = doctor.can(tmp_path)
    assert (finding.ok, finding.found) == (False, "can1 (down)")
    assert finding.remedy == "sudo ip link set can1 up type can bitrate 1000000"


def test_one_can_interface_up_is_enough(tmp_path: Path) -> None:
    interface(tmp_path, "can0", 280, 0x400C1)
    interface(tmp_path, "can1", 280, 0x40080)
    finding = doctor.can(tmp_path)
    assert (finding.ok, finding.found) == (True, "can0 (up), can1 (down)")


def test_cameras(tmp_path: Path) -> None:
    assert not doctor.cameras(tmp_path).ok
    (tmp_path / "video0").touch()
    assert doctor.cameras(tmp_path).found == "video0"


@pytest.mark.parametrize(
    ("capabilities", "limit", "ok"),
    [("0000000000000000", 0, False), ("0000000000800000", 0, True), ("0000000000000000", 80, True), ("0", -1, True)],
)
def test_realtime(tmp_path: Path, capabilities: str, limit: int, ok: bool) -> None:
    (tmp_path / "status").write_text(f"Name:\tpython\nCapEff:\t{capabilities}\n")
    assert doctor.realtime(tmp_path / "status", limit).ok is ok


@pytest.mark.parametrize(("version", "ok"), [((3, 9), False), ((3, 10), True), ((3, 12), True), ((3, 13), False)])
def test_python(version: tuple[int, int], ok: bool) -> None:
    assert doctor.python(version).ok is ok


def test_what_is_missing_comes_with_what_mends_it() -> None:
    for finding in doctor.examine():
        assert finding.found
        assert finding.ok or finding.remedy


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vla-doctor", "--json"])
    assert doctor.main() == 0
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert findings.keys() >= {"Python", "GPU", "ONNX Runtime", "TensorRT build", "ROS 2", "CAN", "cameras"}
    assert findings["ONNX Runtime"]["ok"]
    monkeypatch.setattr(sys, "argv", ["vla-doctor"])
    assert doctor.main() == 0
    assert "CAN" in capsys.readouterr().out
