"""Does an engine compute what PyTorch computed? Measured on the golden samples of the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.gates import CHUNK_ERROR
from vla_runtime.bundle.golden import GoldenSample, GuidedStep
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.engine import Engine
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.profiling.spans import Spans


@dataclass(frozen=True)
class Parity:
    """Relative errors ‖engine − reference‖ / ‖reference‖, the largest over the samples; NaN where one was not finite.

    prefix: of the worst output of encode, over positions that are not masked; ``prefix_worst`` is its name.
    step: after the first Euler step. chunk: after the last. guided: after a steered step, as a share not of the chunk
    but of what steering changed; None where either side cannot steer.
    """

    engine: str
    samples: int
    prefix: float
    prefix_worst: str
    step: float
    chunk: float
    guided: float | None = None

    def passes(self, precision: Precision) -> bool:
        """Whether chunk and steered step are within the precision's gate and nothing before was NaN or infinite."""
        gated = [self.chunk, *(() if self.guided is None else (self.guided,))]
        return bool(np.isfinite([self.prefix, self.step]).all()) and all(e <= CHUNK_ERROR[precision] for e in gated)


@dataclass(frozen=True)
class Answer:
    """What an engine makes of one observation and its noise: the prefix, the chunk after one step and after all.

    guided: the chunk after a steered step, None where none was asked for or the engine has no graph for it.
    """

    prefix: dict[str, NDArray[Any]]
    step: NDArray[np.float32]
    chunk: NDArray[np.float32]
    guided: NDArray[np.float32] | None = None


def answer(
    engine: Engine,
    inputs: Mapping[str, NDArray[Any]],
    noise: NDArray[Any],
    flow_steps: int,
    guided: GuidedStep | None = None,
) -> Answer:
    """Run one observation, by the names of encode's inputs, through the engine, and a steered step if it can."""
    prefix = engine.encode(inputs)
    arrays = engine.prefix_arrays(prefix)
    first, *others = euler_steps(engine, prefix, noise, flow_steps, Spans())
    steered = None
    if guided is not None and engine.can_guide:
        time, next_time, beta = (float(value[0]) for value in (guided.time, guided.next_time, guided.beta))
        steered = engine.guided(guided.chunk, time, next_time, prefix, guided.previous, guided.weights, beta)
    return Answer(arrays, first, others[-1] if others else first, steered)


def compare(engine: Engine, samples: Sequence[GoldenSample], flow_steps: int) -> Parity:
    """Run every sample through the engine, from the sample's own noise, and measure each stage."""
    return measure(engine.name, [answer(engine, s.inputs, s.noise, flow_steps, s.guided) for s in samples], samples)


def measure(engine: str, answers: Sequence[Answer], samples: Sequence[GoldenSample]) -> Parity:
    """The answers of the engine of that name to ``samples``, one each, against the samples' own."""
    prefixes: list[tuple[str, float]] = []
    steps, chunks, steered = [], [], list[float]()
    for found, sample in zip(answers, samples, strict=True):
        prefixes += _prefix_errors(found.prefix, sample.prefix).items()
        steps.append(relative_error(found.step, sample.step))
        chunks.append(relative_error(found.chunk, sample.chunk))
        if found.guided is not None and sample.guided is not None:
            free = sample.guided.free
            steered.append(relative_error(found.guided - free, sample.guided.next_chunk - free))
    worst = max(prefixes, key=lambda named: math.inf if math.isnan(named[1]) else named[1])
    return Parity(
        engine=engine,
        samples=len(samples),
        prefix=worst[1],
        prefix_worst=worst[0],
        step=float(np.max(steps)),
        chunk=float(np.max(chunks)),
        guided=float(np.max(steered)) if steered else None,
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
