"""What an adapter does to the linears of a policy, whatever method trained it and whatever file it came in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from vla_export.adapters.four_bit import FourBit
from vla_export.adapters.gating import Gating
from vla_export.checkpoints.stored_tensors import StoredTensors


@dataclass(frozen=True)
class LowRank:
    """An update that every input gets: B A x. Shapes: A (r, in), B (out, r); the method's scale is in B."""

    A: Tensor
    B: Tensor


@dataclass(frozen=True)
class Branch:
    """An update that depends on the input: B ((A x) ⊙ gating(R x)).

    A: (directions, in). B: (out, directions), with the method's scale in it. router: R, (gating.scores, in).
    """

    A: Tensor
    B: Tensor
    router: Tensor
    gating: Gating


@dataclass(frozen=True)
class Rewrite:
    """An update that the library which trained it computes.

    shape: (out, in) of its linear. of: W → the weight in its place, both float32 of that shape; W stays as it is.
    """

    shape: tuple[int, int]
    of: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LinearUpdate:
    """Everything an adapter does to one linear: y = W x + b + Σ fixed + branch, in this order:

    weight: W as the adapter's own file holds it, (out, in); a checkpoint with another W is another policy.
    four_bit: W was rounded to four bits in training (QLoRA, arXiv 2305.14314).
    rewrite: W becomes what the adapter's own library makes of it.
    fixed: added to W.
    branch: stays beside W.
    """

    fixed: tuple[LowRank, ...] = ()
    branch: Branch | None = None
    weight: Tensor | None = None
    four_bit: FourBit | None = None
    rewrite: Rewrite | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the linear that this is for."""
        if self.rewrite is not None:
            return self.rewrite.shape
        part = self.fixed[0] if self.branch is None else self.branch
        return part.B.shape[0], part.A.shape[1]


@dataclass(frozen=True)
class Adapter:
    """A whole adapter.

    form: method and semantics in words, for the report. updates: by the dotted path of the linear in the training
    project's policy. settings: what its configuration says, for the report. ignored: tensors of its files that
    inference never reads, each with the reason. policy: the rest of the file, where it holds the whole policy: every
    tensor under the name that a checkpoint without the adapter gives it. statistics: the file of the training set's
    statistics, where the training project writes one beside the adapter.
    """

    path: Path
    form: str
    updates: Mapping[str, LinearUpdate]
    settings: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    policy: StoredTensors | None = None
    statistics: Path | None = None
