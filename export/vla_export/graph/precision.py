"""Half precision with float32 islands: the large products are float16 and the sums are not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.models.flow_model import FlowModel
from vla_runtime.engines.tensorrt_types import is_float32_by_design
from vla_runtime.errors import WorkFailed

# Rounding to float16's 11 bits moves a tensor by at most 2^-11 = 4.9e-4 of its norm. More than twice that means that
# its weights lie below 6.1e-5, where float16 loses bits one by one and at last everything.
_ROUNDING = 1e-3
# Numbers converted at a time: an embedding of half a billion would otherwise exist three times over in float32.
_PIECE = 1 << 18
_LARGE = 1_000_000_000


def is_large(model: nn.Module) -> bool:
    """Over a billion parameters, which no CPU runs usefully in float32 and few workstations hold twice."""
    return sum(parameter.numel() for parameter in model.parameters()) > _LARGE


def half_parameters(model: nn.Module) -> set[str]:
    """The parameters that half precision keeps as float16, by name.

    float16: weights and biases of every linear, convolution and embedding, and what they compute, therefore also a
    prefix's keys and values. float32: the residual streams, norms, softmax, rotations and the Euler update (the blocks
    see to that), every other parameter, and the policy's edges — the projections of state, actions and flow time,
    which are a thousandth of the arithmetic and whose rounding would add to every action directly. What a graph takes
    and gives, the prefix apart, keeps its type.
    """
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding) and not is_float32_by_design(path)
        for name, _ in module.named_parameters(recurse=False)
    }


@torch.no_grad()
def half(model: FlowModel) -> None:
    """Turn a model to half precision in place, one of its `half_parameters` after the other; those that are stay.

    Raises `WorkFailed`, naming the tensor, where float16 cannot hold a weight; the model is then of no more use.
    """
    for name in sorted(half_parameters(model)):
        parameter = model.get_parameter(name)
        if parameter.dtype is not torch.float16:
            parameter.data = to_half(name, parameter.data)


def is_half(model: FlowModel) -> bool:
    """Whether any weight is float16."""
    return any(parameter.dtype is torch.float16 for parameter in model.parameters())


def to_half(name: str, tensor: Tensor) -> Tensor:
    """A float16 copy of a finite tensor of any floating type.

    Raises `WorkFailed`, with the ``name`` of the tensor, where float16 cannot hold it.
    """
    halved = torch.empty(tensor.shape, dtype=torch.float16)
    scratch = torch.empty(
        min(_PIECE, tensor.numel())
    )  # one for all pieces: fresh memory costs more than the arithmetic
    size = lost = 0.0
    for piece, place in zip(tensor.reshape(-1).split(_PIECE), halved.view(-1).split(_PIECE), strict=True):
        exact = scratch[: len(piece)].copy_(piece)
        place.copy_(exact)
        size += float(exact.dot(exact))
        rest = exact.sub_(place)
        lost += float(rest.dot(rest))
    largest = float(torch.stack(tensor.aminmax()).abs().max())
    if largest > torch.finfo(torch.float16).max:
        raise WorkFailed(f"{name} reaches {largest:.3g}, beyond float16's 65504: export this policy in fp32")
    if lost > _ROUNDING**2 * size:
        raise WorkFailed(
            f"{name} is too small for float16, which loses {(lost / size) ** 0.5:.1%} of it: export this policy in fp32"
        )
    return halved
