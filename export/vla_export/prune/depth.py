"""The depth stage: removing layers, and a report of what that did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vla_export.models.blocks import MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.gate import gate_gradients, sensitivities
from vla_export.prune.published import published_layers
from vla_export.prune.spec import CkaDepth, DepthStep, GateDepth, PublishedDepth
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import keep_memory, read_stacks, remove_layers
from vla_export.prune.trace import layer_similarities
from vla_export.prune.twin_layers import combined, layers_to_remove, select_twins
from vla_export.sample import Sample
from vla_runtime.errors import BadInput


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StackSimilarity(_Part):
    """How alike one stack's L layers were before any was removed.

    matrix: CKA between hidden states, (L + 1) by (L + 1), place 0 being the embedding. similarities: its L entries next
    to the diagonal; entry l compares what enters layer l (from 0) with what leaves it.
    """

    stack: str
    matrix: tuple[tuple[float, ...], ...]
    similarities: tuple[float, ...]


class StackSensitivity(_Part):
    """How much the loss follows each of one stack's layers before any was removed, as `gate_gradients` defines it."""

    stack: str
    sensitivities: tuple[float, ...]


class StackName(_Part):
    """A stack of which nothing was measured."""

    stack: str


class _Choice(_Part):
    """Layers of stacks that lose the same ones, by index from 0. reduced: those of the first stack, among the kept,
    that lost all but the keys and values the other stacks read."""

    removed: tuple[int, ...]
    kept: tuple[int, ...]
    reduced: tuple[int, ...]


class GroupDepth(_Choice):
    """A choice by CKA.

    similarities: the stacks' own as `vla_export.prune.twin_layers.combined` has them, from which the removed layers
    were chosen; the reduced ones by the first stack's own. threshold: the lowest similarity τ that had to count as a
    twin for a layer to be removed, 1 where none was.
    """

    method: Literal["cka"] = "cka"
    stacks: tuple[StackSimilarity, ...]
    similarities: tuple[float, ...]
    threshold: float


class ProbedDepth(_Choice):
    """A choice by sensitivity. sensitivities: of layers that go together. target: whose actions the loss is about."""

    method: Literal["gate"] = "gate"
    stacks: tuple[StackSensitivity, ...]
    sensitivities: tuple[float, ...]
    target: Literal["demonstrated", "sampled"]


class ListedDepth(_Choice):
    """A published choice."""

    method: Literal["paper"] = "paper"
    stacks: tuple[StackName, ...]


AnyDepth = Annotated[GroupDepth | ProbedDepth | ListedDepth, Field(discriminator="method")]


def stack_names(group: AnyDepth) -> tuple[str, ...]:
    """The stacks', the first of which the others read."""
    return tuple(stack.stack for stack in group.stacks)


class DepthReport(_Part):
    """What depth pruning did.

    step: as the user asked for it. fraction: of the layers of the stacks in ``groups``, how many were removed or
    reduced.
    """

    step: str
    fraction: float
    groups: tuple[AnyDepth, ...]

    def in_words(self) -> list[str]:
        """What the stacks lost: a line for whole layers, a line for those that keep their keys and values."""
        lines = []
        for group in self.groups:
            names = stack_names(group)
            if group.removed:
                lines.append(f"{' and '.join(names)} lost {', '.join(map(str, group.removed))}")
            if group.reduced:
                lines.append(f"{names[0]} keeps only keys and values of {', '.join(map(str, group.reduced))}")
        return lines


def prune_depth(
    model: FlowModel,
    structure: Structure,
    step: DepthStep,
    samples: Sequence[Sample],
    flow_steps: int,
    numbers: int,
    family: str | None = None,
    actions: Sequence[Tensor] | None = None,
) -> tuple[FlowModel, Structure, DepthReport]:
    """Remove the layers that ``step`` asks for, in place.

    structure: what is left of the policy so far; returned with what this leaves. samples: decide which layers go.
    numbers, actions: of `gate_gradients`. family: whose published list is meant.

    Coupled stacks lose one set of indices. Where the first of them is to lose more than those that read it, the rest
    of its share keep their keys and values, which go on being read. Stacks in no group are left alone unless named.

    Raises BadInput for stacks that are not there, have a single layer, or cannot come apart as asked, and for a model
    without coupled stacks where none is named.
    """
    shares = _shares(model, step, family)
    groups: Sequence[AnyDepth]
    if isinstance(step, CkaDepth):
        groups = _by_cka(model, shares, samples, flow_steps)
    elif isinstance(step, GateDepth):
        groups = _by_gate(model, shares, samples, flow_steps, numbers, actions)
    else:
        groups = [_listed(share, published_layers(str(family), share.depth)) for share in shares]
    for group in groups:
        if group.reduced:
            keep_memory(model, group.stacks[0].stack, group.reduced)
            structure = structure.remembering(group.stacks[0].stack, group.reduced)
    removed = {stack.stack: group.removed for group in groups for stack in group.stacks}
    remove_layers(model, removed)
    report = DepthReport(step=str(step), fraction=_fraction(groups), groups=tuple(groups))
    return model, structure.without(removed), report


@dataclass(frozen=True)
class _Share:
    """How many of ``depth`` layers stacks lose: ``together`` at the same indices, and the first ``reduced`` more."""

    names: tuple[str, ...]
    depth: int
    together: int
    reduced: int = 0


def _shares(model: FlowModel, step: DepthStep, family: str | None) -> list[_Share]:
    depths = {name: len(stack) for name, stack in model.stacks().items()}
    coupled = model.coupled()
    if isinstance(step, PublishedDepth):
        return [_Share(g, depths[g[0]], len(published_layers(str(family), depths[g[0]]))) for g in coupled]
    if isinstance(step, GateDepth) and step.keep_memory:
        return [
            _Share((name,), depths[name], 0, _count(step, name, len(_whole(model, name))))
            for name in read_stacks(model)
        ]
    wanted = _counts(step, model)
    shares = []
    for group in coupled:
        first, *others = (wanted.pop(name, 0) for name in group)
        if len(set(others)) > 1 or others[0] > first:
            readers = " and ".join(group[1:])
            raise BadInput(
                f"--prune {step}: {readers} reads {group[0]} layer by layer and cannot lose more layers than it; give "
                f"{group[0]} as much or more, whose layers can keep their keys and values"
            )
        if first:
            shares.append(_Share(group, depths[group[0]], others[0], first - others[0]))
    shares += [_Share((name,), depths[name], count) for name, count in wanted.items()]
    if not shares:
        raise BadInput(f"--prune {step}: this policy has no stacks whose depth can be reduced; leave it out")
    return shares


def _counts(step: CkaDepth | GateDepth, model: FlowModel) -> dict[str, int]:
    """How many layers each stack is to lose, by name."""
    names = [name for group in model.coupled() for name in group]
    if isinstance(step.fractions, Mapping):
        names = list(step.fractions)
        unknown = [name for name in names if name not in model.stacks()]
        if unknown:
            raise BadInput(f"--prune {step}: no stack {unknown[0]} here; there are {', '.join(model.stacks())}")
    return {name: _count(step, name, len(model.stacks()[name])) for name in names}


def _count(step: CkaDepth | GateDepth, name: str, depth: int) -> int:
    if depth < 2:
        raise BadInput(f"--prune {step}: stack {name} has a single layer; nothing can be removed")
    return layers_to_remove(step.fractions[name] if isinstance(step.fractions, Mapping) else step.fractions, depth)


def _by_cka(model: FlowModel, shares: Sequence[_Share], samples: Sequence[Sample], flow_steps: int) -> list[GroupDepth]:
    matrices = layer_similarities(model, [name for share in shares for name in share.names], samples, flow_steps)
    found = []
    for share in shares:
        own = {name: tuple(matrices[name].diagonal(1).tolist()) for name in share.names}
        similarities = combined(own)
        twins = select_twins(similarities, share.together) if share.together else None
        removed = () if twins is None else twins.removed
        first = share.names[0]
        # Of the first layer's twin nothing is known: there is none before it.
        candidates = set(_whole(model, first)) - {0, *removed}
        found.append(
            GroupDepth(
                stacks=tuple(
                    StackSimilarity(
                        stack=name,
                        matrix=tuple(map(tuple, matrices[name].tolist())),
                        similarities=own[name],
                    )
                    for name in share.names
                ),
                similarities=similarities,
                threshold=1.0 if twins is None else twins.threshold,
                removed=removed,
                kept=_others(share.depth, removed),
                reduced=_lowest([-similarity for similarity in own[first]], share.reduced, candidates),
            )
        )
    return found


def _by_gate(
    model: FlowModel,
    shares: Sequence[_Share],
    samples: Sequence[Sample],
    flow_steps: int,
    numbers: int,
    actions: Sequence[Tensor] | None,
) -> list[ProbedDepth]:
    names = [name for share in shares for name in share.names]
    gradients = gate_gradients(model, names, samples, flow_steps, numbers, actions)
    found = []
    for share in shares:
        own = {name: sensitivities([gradients[name]]) for name in share.names}
        together = sensitivities([gradients[name] for name in share.names])
        removed = _lowest(together, share.together, range(share.depth))
        first = share.names[0]
        candidates = set(_whole(model, first)) - set(removed)
        found.append(
            ProbedDepth(
                stacks=tuple(StackSensitivity(stack=name, sensitivities=scores) for name, scores in own.items()),
                sensitivities=together,
                target="sampled" if actions is None else "demonstrated",
                removed=removed,
                kept=_others(share.depth, removed),
                reduced=_lowest(own[first], share.reduced, candidates),
            )
        )
    return found


def _listed(share: _Share, removed: tuple[int, ...]) -> ListedDepth:
    stacks = tuple(StackName(stack=name) for name in share.names)
    return ListedDepth(stacks=stacks, removed=removed, kept=_others(share.depth, removed), reduced=())


def _whole(model: FlowModel, name: str) -> list[int]:
    """The layers of a stack that are more than their keys and values."""
    return [n for n, layer in enumerate(model.stacks()[name]) if not isinstance(layer, MemoryLayer)]


def _lowest(scores: Sequence[float], count: int, among: Collection[int]) -> tuple[int, ...]:
    """The ``count`` indices of the lowest scores, of equals the earlier, in ascending order."""
    return tuple(sorted(sorted(among, key=lambda layer: (scores[layer], layer))[:count]))


def _others(depth: int, removed: Collection[int]) -> tuple[int, ...]:
    return tuple(layer for layer in range(depth) if layer not in removed)


def _fraction(groups: Sequence[AnyDepth]) -> float:
    lost = sum(len(group.removed) * len(group.stacks) + len(group.reduced) for group in groups)
    return lost / sum((len(group.removed) + len(group.kept)) * len(group.stacks) for group in groups)
