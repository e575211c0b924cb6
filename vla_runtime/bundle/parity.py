"""Does an engine compute what PyTorch computed? Measured on the golden samples of the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import GoldenSample
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.engine import Engine
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.spans import Spans


@dataclass(frozen=True)
class Parity:
    """Relative errors ‖engine − reference‖ / ‖reference‖, the largest over the samples; NaN where one was not finite.

    prefix: of the worst output of encode, over positions that are not masked; ``prefix_worst`` is its name.
    step: after the first Euler step. chunk: after the last.
    """

    engine: str
    samples: int
    prefix: float
    prefix_worst: str
    step: float
    chunk: float

    def passes(self, precision: Precision) -> bool:
        """Whether the chunk is within the precision's gate and nothing on the way to it was NaN or infinite."""
        return bool(np.isfinite([self.prefix, self.step]).all()) and self.chunk <= CHUNK_ERROR[precision]


@dataclass(frozen=True)
class Answer:
    """What an engine makes of one observation and its noise: the prefix, the chunk after one step and after all."""

    prefix: dict[str, NDArray[Any]]
    step: NDArray[np.float32]
    chunk: NDArray[np.float32]


def answer(engine: Engine, inputs: Mapping[str, NDArray[Any]], noise: NDArray[Any], flow_steps: int) -> Answer:
    """Run one observation, by the names of encode's inputs, through the engine."""
    prefix = engine.encode(inputs)
    arrays = engine.prefix_arrays(prefix)
    first, *others = euler_steps(engine, prefix, noise, flow_steps, Spans())
    return Answer(arrays, first, others[-1] if others else first)


def compare(engine: Engine, samples: Sequence[GoldenSample], flow_steps: int) -> Parity:
    """Run every sample through the engine, from the sample's own noise, and measure each stage."""
    return measure(engine.name, [answer(engine, s.inputs, s.noise, flow_steps) for s in samples], samples)


def measure(engine: str, answers: Sequence[Answer], samples: Sequence[GoldenSample]) -> Parity:
    """The answers of the engine of that name to ``samples``, one each, against the samples' own."""
    prefixes: list[tuple[str, float]] = []
    steps, chunks = [], []
    for found, sample in zip(answers, samples, strict=True):
        prefixes += _prefix_errors(found.prefix, sample.prefix).items()
        steps.append(relative_error(found.step, sample.step))
        chunks.append(relative_error(found.chunk, sample.chunk))
    worst = max(prefixes, key=lambda named: math.inf if math.isnan(named[1]) else named[1])
    return Parity(
        engine=engine,
        samples=len(samples),
        prefix=worst[1],
        prefix_worst=worst[0],
        step=float(np.max(steps)),
        chunk=float(np.max(chunks)),
    )


def relative_error(found: NDArray[Any], reference: NDArray[Any]) -> float:
    """‖found − reference‖ / ‖reference‖ in float64; infinite when shapes differ or only the reference is zero."""
    if found.shape != reference.shape:
        return math.inf
    difference = float(np.linalg.norm(found.astype(np.float64).ravel() - reference.astype(np.float64).ravel()))
    size = float(np.linalg.norm(reference.astype(np.float64).ravel()))
    if size == 0:
        return 0.0 if difference == 0 else math.inf
    return difference / size


def _prefix_errors(found: dict[str, NDArray[Any]], reference: dict[str, NDArray[Any]]) -> dict[str, float]:
    """Masked positions hold whatever the arithmetic left there and no one reads them: they are not compared."""
    valid = reference["prefix_mask"][0]
    errors = {}
    for name, tensor in reference.items():
        if name not in found or found[name].shape != tensor.shape:
            errors[name] = math.inf
        elif name == "prefix_mask":
            errors[name] = 0.0 if np.array_equal(found[name], tensor) else math.inf
        else:
            errors[name] = relative_error(found[name][:, :, valid], tensor[:, :, valid])
    return errors
