"""Golden samples: what went into the policy on the workstation, and what PyTorch in float32 made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class GoldenSample:
    """One observation, its fixed noise, and the reference outputs. Tensors are those of `Manifest`.

    inputs: every input of encode by name.
    noise: the chunk the flow starts from. Shape (1, H, A).
    prefix: every output of encode by name.
    step: the chunk after the first Euler step. Shape (1, H, A).
    chunk: the chunk after the last, normalised and padded. Shape (1, H, A).
    """

    inputs: dict[str, NDArray[Any]]
    noise: NDArray[Any]
    prefix: dict[str, NDArray[Any]]
    step: NDArray[Any]
    chunk: NDArray[Any]


def write_golden(path: Path, samples: Sequence[GoldenSample]) -> None:
    """Write samples as ``input/<n>/<name>``, ``noise/<n>``, ``prefix/<n>/<name>``, ``step/<n>``, ``chunk/<n>``."""
    tensors: dict[str, NDArray[Any]] = {}
    for n, sample in enumerate(samples):
        tensors |= {f"input/{n}/{name}": tensor for name, tensor in sample.inputs.items()}
        tensors |= {f"prefix/{n}/{name}": tensor for name, tensor in sample.prefix.items()}
        tensors |= {f"noise/{n}": sample.noise, f"step/{n}": sample.step, f"chunk/{n}": sample.chunk}
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
        )
    except KeyError as error:
        raise BadInput(f"{path} lacks the tensor {error.args[0]}: export the bundle again") from error
