"""What a policy bundle says about itself: the only contract between the workstation and the robot."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION: Literal[1] = 1

Unit = Literal["rad", "m", "1"]
Precision = Literal["fp32", "fp16"]


def _inside_the_bundle(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or ":" in parts[0]:
        raise ValueError(f"{path!r} is not a path inside the bundle")
    return path


BundlePath = Annotated[str, AfterValidator(_inside_the_bundle)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Camera(_Part):
    """One camera the policy was trained with, in the order of the encode graph's ``images`` input."""

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    layout: Literal["rgb"] = "rgb"


class Dimension(_Part):
    """One number of a state or an action, in the unit the policy speaks."""

    name: str
    unit: Unit
    lower: float | None = None
    upper: float | None = None


class Normalisation(_Part):
    """Statistics of one space: ``(x - mean) / (std + 1e-8)`` in, ``x * std + mean`` out; one entry per dimension."""

    mode: Literal["mean_std", "identity"]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class Space(_Part):
    """A state or action vector; ``padded_to`` is the width of the graph's tensor, filled with zeros."""

    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    normalisation: Normalisation
    padded_to: int = Field(gt=0)

    @model_validator(mode="after")
    def _lengths_agree(self) -> Space:
        n = len(self.dimensions)
        if self.padded_to < n:
            raise ValueError(f"padded_to is {self.padded_to}, less than the {n} dimensions")
        if self.normalisation.mode == "mean_std":
            for what in ("mean", "std"):
                if len(getattr(self.normalisation, what)) != n:
                    raise ValueError(f"{what} must have {n} entries, one per dimension")
        return self


class Tokenizer(_Part):
    """How the task becomes tokens: ``template`` is filled with the task, the result is padded to ``max_length``."""

    file: BundlePath
    template: str = "{task}\n"
    max_length: int = Field(gt=0)
    pad_id: int = Field(ge=0)
    bos_id: int | None = None


class Graphs(_Part):
    """The two graphs of a flow-matching policy in one precision."""

    encode: BundlePath
    denoise: BundlePath


class Stage(_Part):
    """One step of the export and what it did to the policy, measured."""

    name: str
    summary: str
    measured: dict[str, float] = Field(default_factory=dict)


class Provenance(_Part):
    """Where the policy came from and what was done to it, in order."""

    exporter: str
    checkpoint: str
    checkpoint_sha256: Sha256
    adapter: str | None = None
    adapter_sha256: Sha256 | None = None
    stages: tuple[Stage, ...] = ()


class Manifest(_Part):
    """The whole of ``manifest.json``.

    Graph tensors (static shapes, batch 1, float32 unless said otherwise; keys and values are float16 in fp16 graphs;
    L layers, C cameras, T tokens, H horizon):

    - encode in:   ``images`` (C, 3, height, width) in [-1, 1]; ``tokens`` (1, T) int32; ``token_mask`` (1, T) bool;
      ``state`` (1, state.padded_to), normalised
    - encode out:  ``prefix_mask`` (1, P) bool; ``key_00`` … ``key_{L-1}``, ``value_00`` …: (1, kv heads, P, head_dim)
    - denoise in:  ``chunk`` (1, H, action.padded_to); ``time``, ``next_time`` (1,), from 1 (noise) to 0 (actions);
      and every output of encode under its own name
    - denoise out: ``next_chunk`` (1, H, action.padded_to), one Euler step on: chunk + (next_time - time) * velocity
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    family: str
    cameras: tuple[Camera, ...] = Field(min_length=1)
    state: Space
    action: Space
    horizon: int = Field(gt=0, description="actions in one chunk")
    rate: float = Field(gt=0, description="actions per second")
    flow_steps: int = Field(gt=0)
    tokenizer: Tokenizer
    graphs: dict[Precision, Graphs]
    golden: BundlePath = "golden.safetensors"
    provenance: Provenance
    files: dict[BundlePath, Sha256]

    @model_validator(mode="after")
    def _named_files_are_listed(self) -> Manifest:
        named = [self.golden, self.tokenizer.file, *(f for g in self.graphs.values() for f in (g.encode, g.denoise))]
        for file in named:
            if file not in self.files:
                raise ValueError(f"{file} is named but has no digest in files")
        if "fp32" not in self.graphs:
            raise ValueError("graphs has no fp32 entry")
        if len({c.name for c in self.cameras}) != len(self.cameras):
            raise ValueError("two cameras have the same name")
        if len({(c.height, c.width) for c in self.cameras}) != 1:
            raise ValueError("the cameras differ in size, but share one images tensor")
        return self
