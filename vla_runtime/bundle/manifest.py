"""What a policy bundle says about itself: the only contract between the workstation and the robot."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION: Literal[2] = 2

# 0.001deg and 0.001mm are the integers that the PiPER's SDK speaks.
Unit = Literal["rad", "deg", "0.001deg", "m", "mm", "0.001mm", "1"]
Precision = Literal["fp32", "fp16", "int8"]
Part = Literal["encode", "denoise", "guided"]


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
    """One camera the policy was trained with, in the order of the encode graph's ``images`` input.

    padding: where the bars beside an image of another aspect ratio lie: on both sides, or all on the left and top.
    bars: their value in the images tensor; -1 is black. LeRobot 0.4 trained π0 and π0.5 with -3.
    resize: bilinear on floats without smoothing, as LeRobot does it, or Pillow's on bytes, which smooths what it
    shrinks, as openpi does it.
    """

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    layout: Literal["rgb"] = "rgb"
    padding: Literal["both", "left_top"] = "both"
    bars: float = Field(default=-1.0, allow_inf_nan=False)
    resize: Literal["bilinear", "smooth"] = "bilinear"


class Dimension(_Part):
    """One number of a state or an action, in the unit the policy speaks."""

    name: str
    unit: Unit
    lower: float | None = None
    upper: float | None = None


class Normalisation(_Part):
    """How one space is normalised: ``(x - offset) / scale`` in, ``x * scale + offset`` out; one entry per dimension.

    ``mode`` says where the numbers come from: mean and standard deviation, or the centre and half width of a range that
    becomes [-1, 1]. Each training project guards against a width of zero in its own way; ``scale`` includes that guard.
    """

    mode: Literal["mean_std", "min_max", "quantiles", "quantile10", "identity"]
    offset: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    scale: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]

    @field_validator("scale")
    @classmethod
    def _divides(cls, scale: tuple[float, ...]) -> tuple[float, ...]:
        if any(s == 0 for s in scale):
            raise ValueError("an entry of scale is 0: nothing can be divided by it")
        return scale


class Space(_Part):
    """A state or action vector; ``padded_to`` is the width of the graph's tensor, filled with zeros.

    quantity: joint positions, or the pose of the end effector: x, y, z and the fixed-axis rotations rx, ry, rz, as the
    PiPER reports them in the frame of its base. A gripper may follow either.
    relative: of an action, the dimensions that are relative to the same dimension of the state observed with it.
    """

    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    normalisation: Normalisation
    padded_to: int = Field(gt=0)
    quantity: Literal["joints", "end_pose"] = "joints"
    relative: tuple[bool, ...] = ()

    @model_validator(mode="after")
    def _lengths_agree(self) -> Space:
        n = len(self.dimensions)
        if self.padded_to < n:
            raise ValueError(f"padded_to is {self.padded_to}, less than the {n} dimensions")
        for what in ("offset", "scale"):
            if len(getattr(self.normalisation, what)) != n:
                raise ValueError(f"{what} must have {n} entries, one per dimension")
        if self.relative and len(self.relative) != n:
            raise ValueError(f"relative must have {n} entries, one per dimension, or none")
        return self


class Tokenizer(_Part):
    """How the task becomes tokens: ``template`` is filled with the task, the result is padded to ``max_length``.

    plain_task: spaces around the task are dropped and underscores become spaces before it is filled in.
    state_bins: where the state is part of the text (``{state}`` in the template), the number of bins that [-1, 1] is
    cut into; each normalised dimension becomes the index of its bin, from -1 below the first to state_bins - 1.
    """

    file: BundlePath
    template: str = "{task}\n"
    max_length: int = Field(gt=0)
    pad_id: int = Field(ge=0)
    bos_id: int | None = None
    plain_task: bool = False
    state_bins: int | None = Field(default=None, gt=1)

    @model_validator(mode="after")
    def _template_is_filled(self) -> Tokenizer:
        if "{task}" not in self.template:
            raise ValueError("template has no {task}")
        if ("{state}" in self.template) != (self.state_bins is not None):
            raise ValueError("{state} in the template and state_bins belong together")
        return self


class Graphs(_Part):
    """The graphs of a flow-matching policy in one precision; ``guided`` is there where it was asked for."""

    encode: BundlePath
    denoise: BundlePath
    guided: BundlePath | None = None

    def parts(self) -> dict[Part, str]:
        """The graphs there are, part → file, in the order they are needed."""
        parts: dict[Part, str] = {"encode": self.encode, "denoise": self.denoise}
        return parts if self.guided is None else {**parts, "guided": self.guided}


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

    - encode in:   ``images`` (C, 3, height, width) in [-1, 1] but for bars; ``tokens`` (1, T) int32; ``token_mask``
      (1, T) bool; ``state`` (1, state.padded_to), normalised, unless it is part of the text (tokenizer.state_bins),
      which then holds all state.padded_to numbers
    - encode out:  ``prefix_mask`` (1, P) bool; ``key_00`` … ``key_{L-1}``, ``value_00`` …: (1, kv heads, P, head_dim)
    - denoise in:  ``chunk`` (1, H, action.padded_to); ``time``, ``next_time`` (1,), from 1 (noise) to 0 (actions);
      and every output of encode under its own name
    - denoise out: ``next_chunk`` (1, H, action.padded_to), one Euler step on: chunk + (next_time - time) * velocity
    - guided in:   every input of denoise; ``previous`` (1, H, action.padded_to), what the actions shall become, and how
      much, ``weights`` (1, H, 1) in [0, 1]; ``beta`` (1,), the most that the gradient counts
    - guided out:  ``next_chunk`` (1, H, action.padded_to), one Euler step on, steered (arXiv 2506.07339)
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    family: str
    cameras: tuple[Camera, ...] = Field(min_length=1)
    state: Space
    action: Space
    horizon: int = Field(gt=0, description="actions in one chunk")
    rate: float = Field(gt=0, description="actions per second")
    flow_steps: int = Field(gt=0)
    tokenizer: Tokenizer
    graphs: dict[Precision, Graphs] = Field(min_length=1)
    golden: BundlePath = "golden.safetensors"
    provenance: Provenance
    files: dict[BundlePath, Sha256]

    @model_validator(mode="after")
    def _named_files_are_listed(self) -> Manifest:
        named = [self.golden, self.tokenizer.file, *(f for g in self.graphs.values() for f in g.parts().values())]
        for file in named:
            if file not in self.files:
                raise ValueError(f"{file} is named but has no digest in files")
        for n, relative in enumerate(self.action.relative):
            one = self.action.dimensions[n]
            same = [(d.name, d.unit) for d in self.state.dimensions[n : n + 1]]
            if relative and same != [(one.name, one.unit)]:
                raise ValueError(f"{one.name} [{one.unit}] of the action is relative, but not number {n} of the state")
        if len({c.name for c in self.cameras}) != len(self.cameras):
            raise ValueError("two cameras have the same name")
        if len({(c.height, c.width) for c in self.cameras}) != 1:
            raise ValueError("the cameras differ in size, but share one images tensor")
        return self

    def encode_inputs(self) -> dict[str, tuple[int, ...]]:
        """The encode graph's inputs, name → shape, in their order."""
        camera, length = self.cameras[0], self.tokenizer.max_length
        inputs: dict[str, tuple[int, ...]] = {
            "images": (len(self.cameras), 3, camera.height, camera.width),
            "tokens": (1, length),
            "token_mask": (1, length),
        }
        if self.tokenizer.state_bins is None:
            inputs["state"] = (1, self.state.padded_to)
        return inputs
