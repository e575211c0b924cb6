"""Half precision with float32 islands: a copy of the model whose large products are float16 and whose sums are not."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from vla_export.models.flow_model import FlowModel
from vla_runtime.engines.tensorrt_types import is_float32_by_design
from vla_runtime.errors import WorkFailed

# Rounding to float16's 11 bits moves a tensor by at most 2^-11 = 4.9e-4 of its norm. More than twice that means that
# its weights lie below 6.1e-5, where float16 loses bits one by one and at last everything.
_ROUNDING = 1e-3


@torch.no_grad()
def half(model: FlowModel) -> FlowModel:
    """A copy of a float32 model in half precision; ``model`` is left as it is, and never copied whole in float32.

    float16: weights and biases of every linear, convolution and embedding, and what they compute, therefore also a
    prefix's keys and values. float32: the residual streams, norms, softmax, rotations and the Euler update (the blocks
    see to that), every other parameter, and the policy's edges — the projections of state, actions and flow time,
    which are a thousandth of the arithmetic and whose rounding would add to every action directly. What a graph takes
    and gives, the prefix apart, keeps its type.

    Raises `WorkFailed`, naming the tensor, where float16 cannot hold a weight.
    """
    halves = {
        id(parameter): nn.Parameter(_half(f"{path}.{name}", parameter), requires_grad=False)
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Embedding) and not is_float32_by_design(path)
        for name, parameter in module.named_parameters(recurse=False)
    }
    # deepcopy takes what its memo already knows as copied: no float32 copy of these is ever made.
    return copy.deepcopy(model, dict(halves))


def _half(name: str, tensor: Tensor) -> Tensor:
    halved = tensor.to(torch.float16)
    if not halved.isfinite().all():
        largest = tensor.abs().max().item()
        raise WorkFailed(f"{name} reaches {largest:.3g}, beyond float16's 65504: export this policy in fp32")
    size, lost = tensor.norm(), (halved.to(tensor.dtype) - tensor).norm()
    if lost > _ROUNDING * size:
        raise WorkFailed(
            f"{name} is too small for float16, which loses {(lost / size).item():.1%} of it: export this policy in fp32"
        )
    return halved
