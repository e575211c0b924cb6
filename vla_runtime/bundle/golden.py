"""Golden samples: what went into the policy on the workstation, and what PyTorch in float32 made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class GuidedStep:
    """One flow step that is steered towards another chunk. Tensors are those of `Manifest`.

    chunk, time, next_time, previous, weights, beta: the guided graph's inputs beside the prefix.
    free: where an unsteered step leads, next_chunk: where this one does. Shapes (1, H, A).
    """

    chunk: NDArray[Any]
    time: NDArray[Any]
    next_time: NDArray[Any]
    previous: NDArray[Any]
    weights: NDArray[Any]
    beta: NDArray[Any]
    free: NDArray[Any]
    next_chunk: NDArray[Any]


@dataclass(frozen=True)
class GoldenSample:
    """One observation, its fixed noise, and the reference outputs. Tensors are those of `Manifest`.

    inputs: every input of encode by name.
    noise: the chunk the flow starts from. Shape (1, H, A).
    prefix: every output of encode by name.
    step: the chunk after the first Euler step. Shape (1, H, A).
    chunk: the chunk after the last, normalised and padded. Shape (1, H, A).
    guided: one steered step, where the bundle has a graph for it.
    """

    inputs: dict[str, NDArray[Any]]
    noise: NDArray[Any]
    prefix: dict[str, NDArray[Any]]
    step: NDArray[Any]
    chunk: NDArray[Any]
    guided: GuidedStep | None = None


def write_golden(path: Path, samples: Sequence[GoldenSample]) -> None:
    """Write samples as ``input/<n>/<name>``, ``noise/<n>``, ``prefix/<n>/<name>``, ``step/<n>``, ``chunk/<n>``.

    A steered step as ``guided/<n>/<name>``.
    """
    tensors: dict[str, NDArray[Any]] = {}
    for n, sample in enumerate(samples):
        tensors |= {f"input/{n}/{name}": tensor for name, tensor in sample.inputs.items()}
        tensors |= {f"prefix/{n}/{name}": tensor for name, tensor in sample.prefix.items()}
        tensors |= {f"noise/{n}": sample.noise, f"step/{n}": sample.step, f"chunk/{n}": sample.chunk}
        if sample.guided is not None:
            tensors |= {f"guided/{n}/{name}": tensor for name, tensor in vars(sample.guided).items()}
    path.write_bytes(save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def read_golden(path: Path) -> list[GoldenSample]:
    """Read what `write_golden` wrote, in order; raises `BadInput` for a file that is something else."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise BadInput(f"{path} is not a safetensors file ({error}): export the bundle again") from error
    samples: list[GoldenSample] = []
    while f"chunk/{len(samples)}" in tensors:
        samples.append(_sample(path, tensors, len(samples)))
    if not samples:
        raise BadInput(f"{path} holds no golden sample: export the bundle again")
    return samples


def _sample(path: Path, tensors: dict[str, NDArray[Any]], n: int) -> GoldenSample:
    def group(kind: str) -> dict[str, NDArray[Any]]:
        start = f"{kind}/{n}/"
        return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}

    try:
        return GoldenSample(
            inputs=group("input"),
            noise=tensors[f"noise/{n}"],
            prefix=group("prefix"),
            step=tensors[f"step/{n}"],
            chunk=tensors[f"chunk/{n}"],
            guided=_guided(group("guided")),
        )
    except KeyError as error:
        raise BadInput(f"{path} lacks the tensor {error.args[0]}: export the bundle again") from error


def _guided(tensors: dict[str, NDArray[Any]]) -> GuidedStep | None:
    return GuidedStep(**{field.name: tensors[field.name] for field in fields(GuidedStep)}) if tensors else None
