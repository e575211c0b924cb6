"""What TensorRT cannot build of an exact branch."""

from __future__ import annotations

from torch import nn

from vla_export.adapters.gating import EnergyGating
from vla_runtime.errors import BadInput

# https://docs.nvidia.com/deeplearning/tensorrt: ITopKLayer, K.
LARGEST_TOP_K = 3840


def check_tensorrt(model: nn.Module) -> None:
    """Raises `BadInput`, naming the linear, where a branch sorts more scores than TensorRT's TopK can.

    A bank that is cut is sorted only as far as its inputs went.
    """
    for path, module in model.named_modules():
        if isinstance(module, EnergyGating) and module.most > LARGEST_TOP_K:
            linear = path.partition(".gating")[0]
            raise BadInput(
                f"--trt: {linear} sorts {module.most} scores, and TensorRT at most {LARGEST_TOP_K}: give "
                "--calibration, which cuts a bank to what is used, or --merge static"
            )
