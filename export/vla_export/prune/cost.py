"""What a policy costs: parameters, bytes and FLOPs by group of modules, from shapes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample


class Cost(BaseModel):
    """Of one group of modules, or of a whole policy.

    bytes: of its weights, in the types they are stored in. FLOPs: of matrix products and convolutions, two per
    multiplication with its addition; to encode one observation, in one flow step, and for a whole chunk, which is one
    encoding and every flow step. What nothing reads, as the last language layer's output, costs none: no graph has it.
    """

    model_config = ConfigDict(frozen=True)

    parameters: int
    bytes: int
    flops_encode: int
    flops_step: int
    flops_chunk: int


@torch.no_grad()
def cost(model: FlowModel, sample: Sample, flow_steps: int) -> dict[str, Cost]:
    """What each group of a policy's modules costs, in the model's order.

    A stack has three groups, ``language.attention``, ``language.mlp`` and ``language.norms``; any other module belongs
    to the model's direct part that it is in (``projector``, ``embedding``, ``vision`` for what is outside its stack).
    Shapes are those of ``sample``; nothing is computed and no weight is read. Not within `vla_export.float32.float32`,
    where no weight has the type it is stored in.
    """
    groups = _Groups(model)
    held = dict(model.named_parameters()) | dict(model.named_buffers())
    weights = {f"model.{name}": tensor.new_empty(tensor.shape, device="meta") for name, tensor in held.items()}

    def work(call: Callable[..., Any], inputs: Any) -> tuple[Any, Counter[str]]:
        module = _Call(model, call)
        with ModuleTracker() as tracker, _Work(module, tracker, groups) as recorded:
            found = functional_call(module, weights, (inputs,))
        return found, recorded.live(tree_leaves(found))

    observed = {name: tensor.to("meta") for name, tensor in sample.observed.items()}
    noise = sample.noise.to("meta")
    prefix, encode = work(model.encode, observed)
    _, step = work(lambda seen: model.velocity(noise, noise.new_empty(1), seen), prefix)

    parameters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, tensor in model.named_parameters():
        group = groups.of(name)
        parameters[group] += tensor.numel()
        sizes[group] += tensor.numel() * tensor.element_size()
    return {
        group: Cost(
            parameters=parameters[group],
            bytes=sizes[group],
            flops_encode=encode[group],
            flops_step=step[group],
            flops_chunk=encode[group] + flow_steps * step[group],
        )
        for group in parameters
    }


def total(costs: Iterable[Cost]) -> Cost:
    """The sum of several costs."""
    costs = list(costs)
    return Cost(**{name: sum(getattr(part, name) for part in costs) for name in Cost.model_fields})


class _Groups:
    """The group of a module or parameter, by its path in the model."""

    def __init__(self, model: FlowModel) -> None:
        names = {id(stack): name for name, stack in model.stacks().items()}
        self._stacks = {path: names[id(module)] for path, module in model.named_modules() if id(module) in names}

    def of(self, path: str) -> str:
        for stack, name in self._stacks.items():
            if path.startswith(f"{stack}."):
                # A layer's own arithmetic, outside its parts, is that of its attention.
                inside = path[len(stack) + 1 :].split(".")
                part = inside[2] if len(inside) > 2 else "attention" if inside[0] == "layers" else "norms"
                return f"{name}.{part if part in ('attention', 'mlp') else 'norms'}"
        return path.split(".")[0]


class _Call(nn.Module):
    """A model's method as the forward of a module, which is what a functional call calls."""

    def __init__(self, model: FlowModel, method: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._method = method

    def forward(self, inputs: Any) -> Any:
        return self._method(inputs)


@dataclass(frozen=True)
class _Operation:
    group: str
    flops: int
    reads: Sequence[Tensor]
    makes: Sequence[Tensor]


class _Work(TorchDispatchMode):
    """Every operation that runs while it lasts, with what it reads and makes."""

    def __init__(self, module: nn.Module, tracker: ModuleTracker, groups: _Groups) -> None:
        super().__init__()
        self._tracker, self._groups = tracker, groups
        self._root = f"{type(module).__name__}.model."
        self._operations: list[_Operation] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        flops = 0 if formula is None else formula(*args, **(kwargs or {}), out_val=found)
        path = max(self._tracker.parents, key=len)
        group = self._groups.of(path[len(self._root) :]) if path.startswith(self._root) else ""
        reads, makes = (
            [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)] for tree in ((args, kwargs), found)
        )
        self._operations.append(_Operation(group, flops, reads, makes))
        return found

    def live(self, results: Iterable[Tensor]) -> Counter[str]:
        """FLOPs by group of the operations that ``results`` depend on."""
        needed = {id(tensor) for tensor in results}
        flops: Counter[str] = Counter()
        for operation in reversed(self._operations):
            if needed.intersection(map(id, operation.makes)):
                flops[operation.group] += operation.flops
                needed.update(map(id, operation.reads))
        return flops
