"""Where in a policy an adapted linear is."""

from __future__ import annotations

from vla_export.models.flow_model import FlowModel

# Linears outside the stacks: what projects images, state, actions and flow time.
EDGES = "edges"


def stack_of(model: FlowModel, path: str) -> str:
    """The name of the stack that the linear at ``path`` is in, or `EDGES`."""
    above = [path[:n] for n, letter in enumerate(path) if letter == "."]
    names = [name for name, stack in model.stacks().items() if any(model.get_submodule(p) is stack for p in above)]
    return names[0] if names else EDGES


def layer_number(path: str) -> int | None:
    """Which layer of its stack a linear is in, from 0; None for one that is in no layer."""
    return next((int(part) for part in path.split(".") if part.isdigit()), None)
