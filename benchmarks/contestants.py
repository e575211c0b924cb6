"""Ways to run one policy, each of which makes the same chunk from the same observation and says what it took."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from vla_export.models.flow_model import FlowModel
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.golden import GoldenSample
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.onnxruntime import OnnxRuntimeEngine
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.spans import Spans

LEROBOT = Path(__file__).resolve().parents[1] / "tests" / "oracles" / "smolvla_laps.py"
Chunk = NDArray[np.float32]


@dataclass(frozen=True)
class Lap:
    """One chunk, in seconds. cpu: of all threads together. stages: as far as they can be told apart."""

    seconds: float
    cpu: float
    stages: Mapping[str, float]


class Contestant(ABC):
    """One way to run the policy on one sample."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def run(self) -> tuple[Lap, Chunk]:
        """Make the chunk, normalised and padded, shape (1, H, A)."""


class BundleContestant(Contestant):
    """A bundle's graphs in ONNX Runtime, as the robot runs them."""

    def __init__(self, name: str, bundle: Bundle, precision: Precision, sample: GoldenSample, threads: int) -> None:
        super().__init__(name)
        self._engine = OnnxRuntimeEngine(bundle, precision, threads)
        self._sample, self._flow_steps = sample, bundle.manifest.flow_steps
        graph = bundle.path(bundle.manifest.graphs[precision].encode)
        self._vision = _vision_share(graph, sample.inputs, threads)

    def run(self) -> tuple[Lap, Chunk]:
        started, worked = time.perf_counter(), time.process_time()
        prefix = self._engine.encode(self._sample.inputs)
        encoded = time.perf_counter()
        *_, chunk = euler_steps(self._engine, prefix, self._sample.noise, self._flow_steps, Spans())
        ended = time.perf_counter()
        encode = encoded - started
        stages = {
            "vision": encode * self._vision,
            "prefix": encode * (1 - self._vision),
            "steps": ended - encoded,
        }
        return Lap(ended - started, time.process_time() - worked, stages), chunk


def _vision_share(graph: Path, inputs: Mapping[str, NDArray[Any]], threads: int) -> float:
    """Vision's part of encode's time, by ONNX Runtime's profile; nodes are named for their module and run in order."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as directory:
        options.enable_profiling, options.profile_file_prefix = True, f"{directory}/profile"
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        for _ in range(2):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    last_run = max((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])
    kernels = [e for e in events if e["name"].endswith("_kernel_time") and e["ts"] >= last_run["ts"]]
    seen = [e["ts"] + e["dur"] for e in kernels if e["name"].startswith(("vision.", "projector"))]
    return float((max(seen) - last_run["ts"]) / last_run["dur"])


class TorchContestant(Contestant):
    """Our definition of the policy in PyTorch, float32."""

    def __init__(self, name: str, model: FlowModel, sample: GoldenSample, flow_steps: int) -> None:
        super().__init__(name)
        self._model, self._flow_steps = model, flow_steps
        self._observed = {name: torch.from_numpy(array) for name, array in sample.inputs.items()}
        self._noise = torch.from_numpy(sample.noise)

    @torch.inference_mode()
    def run(self) -> tuple[Lap, Chunk]:
        tower = self._model.get_submodule("vision")
        marks: list[float] = []
        hooks = (
            tower.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter())),
            tower.register_forward_hook(lambda *_: marks.append(time.perf_counter())),
        )
        started, worked = time.perf_counter(), time.process_time()
        prefix = self._model.encode(self._observed)
        encoded = time.perf_counter()
        chunk = self._model.sample(prefix, self._noise, self._flow_steps)
        ended, worked = time.perf_counter(), time.process_time() - worked
        for hook in hooks:
            hook.remove()
        vision = marks[1] - marks[0]
        stages = {"vision": vision, "prefix": encoded - started - vision, "steps": ended - encoded}
        return Lap(ended - started, worked, stages), chunk.numpy()


class LeRobotContestant(Contestant):
    """LeRobot in a process of its own Python; ``way`` is one that tests/oracles/smolvla_laps.py knows."""

    def __init__(self, way: str, process: LeRobotProcess) -> None:
        super().__init__(f"LeRobot {way}")
        self._way, self._process = way, process

    def run(self) -> tuple[Lap, Chunk]:
        return Lap(**self._process.ask(self._way)), load_file(self._process.directory / f"{self._way}.safetensors")[
            "chunk"
        ]


class LeRobotProcess:
    """A running tests/oracles/smolvla_laps.py; leaving the block ends it."""

    def __init__(
        self, python: Path, checkpoint: Path, sample: GoldenSample, ways: Sequence[str], threads: int, directory: Path
    ) -> None:
        """``directory``: an empty one, for what passes between the two processes.

        Raises `BadInput` for a Python that is not there.
        """
        if not python.is_file():
            raise BadInput(f"--lerobot-python {python}: no such file; it is the Python of an environment with LeRobot")
        self.directory, self._log = directory, directory / "lerobot.log"
        inputs = directory / "inputs.safetensors"
        save_file(dict(sample.inputs) | {"noise": sample.noise}, inputs)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(LEROBOT), str(checkpoint), str(inputs), str(threads), *ways],
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def __enter__(self) -> LeRobotProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def ask(self, way: str) -> dict[str, Any]:
        """What one chunk took that way; see `Lap`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{way}\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line it says: the first is its packages' versions. Raises `WorkFailed` where it died instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            said = [line for line in self._log.read_text(encoding="utf-8").splitlines() if line.strip()]
            raise WorkFailed(f"LeRobot's process ended: {said[-1] if said else 'it said nothing'}")
        found: dict[str, Any] = json.loads(line)
        return found
