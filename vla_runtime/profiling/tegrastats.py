"""What a Jetson says about itself while it works: memory, GPU, memory bandwidth, temperatures, power."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from vla_runtime.errors import BadInput

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?")
_EMC = re.compile(r"\bEMC_FREQ (\d+)%(?:@(\d+))?")
_TEMPERATURE = re.compile(r"\b(\w+)@(-?\d+(?:\.\d+)?)C\b")
_POWER = re.compile(r"\b([A-Z]\w*) (\d+)(?:mW)?/\d+(?:mW)?(?=[/\s]|$)")

_SENSOR_OFF = -256.0  # what the driver reports for a power-gated block
_CAPACITY = 4096


@dataclass(frozen=True)
class TegraSample:
    """One line of tegrastats. What a board does not report is None or absent.

    ram_used, ram_total: in [MB], GPU memory included (it is the same memory).
    gpu_load, emc_load: in [%]; EMC is the memory controller, the bottleneck of a transformer's decoding.
    gpu_clocks: one per graphics cluster, in [MHz]. emc_clock: in [MHz].
    temperatures: by sensor, lower case, in [°C]; sensors that are switched off are left out.
    power: by rail, at this moment, in [mW]. Rails overlap (VDD_IN is the module's total): do not add them all.
    """

    ram_used: int
    ram_total: int
    gpu_load: int | None
    gpu_clocks: tuple[int, ...]
    emc_load: int | None
    emc_clock: int | None
    temperatures: dict[str, float]
    power: dict[str, int]


def parse(line: str) -> TegraSample | None:
    """Read one line of any JetPack from 4 to 7; None for a line that is no sample.

    The format: Jetson Linux Developer Guide, "tegrastats Utility". Releases differ in the brackets around clocks, in
    ``mW``, in upper case, and in a second (filtered or peak) value after a slash.
    """
    ram = _RAM.search(line)
    if ram is None:
        return None
    gpu, emc = _GPU.search(line), _EMC.search(line)
    temperatures = {name.lower(): float(celsius) for name, celsius in _TEMPERATURE.findall(line)}
    return TegraSample(
        ram_used=int(ram[1]),
        ram_total=int(ram[2]),
        gpu_load=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_clocks=tuple(int(clock) for clock in gpu[2].split(",")) if gpu and gpu[2] else (),
        emc_load=int(emc[1]) if emc else None,
        emc_clock=int(emc[2]) if emc and emc[2] else None,
        temperatures={name: celsius for name, celsius in temperatures.items() if celsius != _SENSOR_OFF},
        power={rail: int(milliwatts) for rail, milliwatts in _POWER.findall(line) if rail != "NC"},
    )


def available() -> bool:
    """Whether this machine has tegrastats, that is, whether it is a Jetson."""
    return shutil.which("tegrastats") is not None


class TegrastatsReader:
    """Runs tegrastats while a block runs, and keeps its newest samples.

    with TegrastatsReader() as reader:
        ...
    reader.samples()
    """

    def __init__(self, interval: float = 0.1) -> None:
        """``interval``: between samples, in [s]. Raises `BadInput` where there is no tegrastats."""
        program = shutil.which("tegrastats")
        if program is None:
            raise BadInput("tegrastats is not installed: it comes with JetPack, on Jetson boards only")
        self._command = [program, "--interval", str(round(interval * 1e3))]
        self._samples: deque[TegraSample] = deque(maxlen=_CAPACITY)

    def __enter__(self) -> TegrastatsReader:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, name="tegrastats", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._thread.join()
        self._process.wait()

    def samples(self) -> tuple[TegraSample, ...]:
        """What has been read so far, oldest first."""
        return tuple(self._samples)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                sample = parse(line)
                if sample is not None:
                    self._samples.append(sample)
