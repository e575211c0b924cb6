"""tegrastats lines as boards really print them, from JetPack 4 to 7."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vla_runtime.errors import BadInput
from vla_runtime.profiling.tegrastats import TegrastatsReader, available, parse

AGX_XAVIER_JP4 = (
    "RAM 721/31927MB (lfb 7291x4MB) SWAP 0/15963MB (cached 0MB) CPU [2%@1190,0%@1190,0%@1190,0%@1190,off,off,off,off] "
    "EMC_FREQ 0%@665 GR3D_FREQ 0%@318 APE 150 MTS fg 0% bg 0% AO@37.5C GPU@37.5C Tdiode@40C PMIC@100C AUX@36C "
    "CPU@37.5C thermal@36.9C Tboard@37C GPU 0/0 CPU 311/311 SOC 932/932 CV 0/0 VDDRQ 621/621 SYS5V 1482/1482"
)
XAVIER_NX_JP5 = (
    "07-09-2024 13:31:31 RAM 3168/6851MB (lfb 2x4MB) SWAP 161/3426MB (cached 0MB) "
    "CPU [23%@1397,17%@1192,16%@1190,13%@1190,23%@1190,10%@1190] EMC_FREQ 2%@204 GR3D_FREQ 0%@[114] VIC_FREQ 115 "
    "APE 150 AUX@45C CPU@46.5C thermal@45.6C AO@45C GPU@45.5C PMIC@50C "
    "VDD_IN 2763mW/2846mW VDD_CPU_GPU_CV 650mW/670mW VDD_SOC 650mW/711mW"
)
AGX_ORIN_JP5 = (
    "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729,0%@729,"
    "0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 "
    "APE 174 CV0@-256C CPU@44.562C Tboard@32C SOC2@40.093C Tdiode@33C SOC0@41.093C CV1@-256C GPU@-256C tj@44.343C "
    "SOC1@41.25C CV2@-256C VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW "
    "VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
)
ORIN_NANO_JP6 = (
    "10-08-2026 04:35:02 RAM 6712/7620MB (lfb 12x4MB) SWAP 369/3810MB (cached 8MB) CPU [38%@1497,2%@729,1%@729,0%@729,"
    "1%@729,0%@729] EMC_FREQ 61%@2133 GR3D_FREQ 99%@[612] NVDEC off NVJPG off VIC off OFA off APE 200 "
    "cpu@57.125C soc2@55.093C soc0@56.625C gpu@58.5C tj@58.5C soc1@56.5C "
    "VDD_IN 5251mW/8535mW VDD_CPU_GPU_CV 512mW/1944mW VDD_SOC 2720mW/3659mW"
)
ORIN_NX_JP6_WITHOUT_ROOT = (
    "RAM 1224/15368MB (lfb 8x4MB) SWAP 0/7684MB (cached 0MB) CPU [1%@729,0%@729,0%@729,0%@729,off,off,off,off] "
    "EMC_FREQ 0% GR3D_FREQ 88% CPU@43.5C GPU@42.5C tj@43.5C VDD_IN 4319mW/4319mW"
)
AGX_ORIN_JP7 = (
    "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201] EMC_FREQ 3%@3199 "
    "GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off VIC off OFA off NVDLA0 off PVA0_FREQ off APE 174 "
    "cpu@52.968C/52.968C soc2@48.406C/48.406C soc0@49.531C/49.531C gpu@47.625C/47.625C "
    "VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
)
THOR_JP7 = "RAM 4722/7844MB (lfb 1x512kB) EMC_FREQ 2%@1866 GR3D_FREQ @[1000,1000,1000] APE 150"


@pytest.mark.parametrize(
    ("line", "ram", "gpu_load", "gpu_clocks", "emc_load", "emc_clock"),
    [
        (AGX_XAVIER_JP4, (721, 31927), 0, (318,), 0, 665),
        (XAVIER_NX_JP5, (3168, 6851), 0, (114,), 2, 204),
        (AGX_ORIN_JP5, (4321, 62801), 0, (0, 0), 0, 2133),
        (ORIN_NANO_JP6, (6712, 7620), 99, (612,), 61, 2133),
        (ORIN_NX_JP6_WITHOUT_ROOT, (1224, 15368), 88, (), 0, None),
        (AGX_ORIN_JP7, (20642, 62817), 12, (1300, 1300), 3, 3199),
        (THOR_JP7, (4722, 7844), None, (1000, 1000, 1000), 2, 1866),
    ],
)
def test_memory_and_clocks(
    line: str, ram: tuple[int, int], gpu_load: int, gpu_clocks: tuple[int, ...], emc_load: int, emc_clock: int
) -> None:
    sample = parse(line)
    assert sample is not None
    assert (sample.ram_used, sample.ram_total) == ram
    assert (sample.gpu_load, sample.gpu_clocks) == (gpu_load, gpu_clocks)
    assert (sample.emc_load, sample.emc_clock) == (emc_load, emc_clock)


@pytest.mark.parametrize(
    ("line", "power"),
    [
        (AGX_XAVIER_JP4, {"GPU": 0, "CPU": 311, "SOC": 932, "CV": 0, "VDDRQ": 621, "SYS5V": 1482}),
        (XAVIER_NX_JP5, {"VDD_IN": 2763, "VDD_CPU_GPU_CV": 650, "VDD_SOC": 650}),
        (AGX_ORIN_JP5, {"VDD_GPU_SOC": 2340, "VDD_CPU_CV": 390, "VIN_SYS_5V0": 4025, "VDDQ_VDD2_1V8AO": 301}),
        (ORIN_NANO_JP6, {"VDD_IN": 5251, "VDD_CPU_GPU_CV": 512, "VDD_SOC": 2720}),
        (AGX_ORIN_JP7, {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500}),
        (THOR_JP7, {}),
    ],
)
def test_power_now_in_milliwatts(line: str, power: dict[str, int]) -> None:
    sample = parse(line)
    assert sample is not None
    assert sample.power == power


def test_temperatures_without_the_sensors_that_are_off() -> None:
    sample, newest = parse(AGX_ORIN_JP5), parse(AGX_ORIN_JP7)
    assert sample is not None
    assert newest is not None
    assert sample.temperatures == {
        "cpu": 44.562, "tboard": 32, "soc2": 40.093, "tdiode": 33, "soc0": 41.093, "tj": 44.343, "soc1": 41.25,
    }  # fmt: skip
    assert newest.temperatures == {"cpu": 52.968, "soc2": 48.406, "soc0": 49.531, "gpu": 47.625}


@pytest.mark.parametrize("line", ["", "tegrastats: permission denied", "Connected to GPU"])
def test_other_lines_are_no_sample(line: str) -> None:
    assert parse(line) is None


def test_the_reader_runs_tegrastats_and_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(
        f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho starting\nwhile true; do echo '{ORIN_NANO_JP6}'; done\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert available()
    with TegrastatsReader() as reader:
        give_up = time.monotonic() + 20
        while len(reader.samples()) < 3 and time.monotonic() < give_up:
            time.sleep(0.01)
    assert reader.samples()[0] == parse(ORIN_NANO_JP6)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_without_tegrastats_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not available()
    with pytest.raises(BadInput, match="JetPack"):
        TegrastatsReader()
