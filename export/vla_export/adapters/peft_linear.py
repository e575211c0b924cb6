"""One linear of a policy as peft wraps it: peft itself says what its adapter makes of the weight.

peft merges in the type of the weights. Given one weight at a time, in float32, it computes what a half-precision policy
then rounds once, and never needs a second copy of the policy.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_runtime.errors import BadInput, WorkFailed

# What peft warns of where a pattern is about linears not in the model, and where an adapter could not be saved again.
_OF_OTHER_LINEARS = r"The following \w+ keys did not match any targeted module"
_OF_SAVING = "Using Rank-Stabilized LoRA with rank_pattern/alpha_pattern and post-training conversion"


@dataclass(frozen=True)
class PeftLinear:
    """What is needed to put peft's LoRA layer on one linear.

    adapter: its file. name: the linear's dotted path in the training project's policy, which patterns of ranks and
    alphas are about. settings: arguments of ``peft.LoraConfig`` but for those that choose linears. shape: (out, in).

    Every method raises `BadInput` where peft is not installed.
    """

    adapter: Path
    name: str
    settings: Mapping[str, Any]
    shape: tuple[int, int]

    def saved_shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that peft's ``save_pretrained`` writes for this linear, by what follows its name, and shapes."""
        out, inputs = self.shape
        policy = self._wrapped(nn.Linear(inputs, out, bias=False, device="meta"))
        saved = self._peft().get_peft_model_state_dict(policy, save_embedding_layers=False)
        return {name.removeprefix(f"{self.name}."): tuple(tensor.shape) for name, tensor in saved.items()}

    @torch.no_grad()
    def merged(self, tensors: Mapping[str, Tensor], weight: Tensor) -> Tensor:
        """W (out, in), float32 → what peft merges it to, float32; W stays as it is.

        tensors: of the `saved_shapes`. The layer's initialisation changes W first where the method's does (PiSSA,
        OLoRA), as on loading with peft.

        Raises `BadInput` where the result is not finite, WorkFailed where peft leaves a tensor out.
        """
        out, inputs = self.shape
        linear = nn.Linear(inputs, out, bias=False, device="meta")
        linear.weight = nn.Parameter(weight.clone(), requires_grad=False)  # OLoRA's initialisation works in place
        policy = self._wrapped(linear)
        named = {f"{self.name}.{name}": tensor for name, tensor in tensors.items()}
        loaded = self._peft().set_peft_model_state_dict(policy, named)
        left = [*loaded.unexpected_keys, *(key for key in loaded.missing_keys if not key.endswith("base_layer.weight"))]
        if left:
            raise WorkFailed(f"adapter {self.adapter}: this version of peft does not load {left[0]}; install another")
        layer: Any = policy.get_submodule(self.name)
        try:
            layer.merge(safe_merge=True)
        except ValueError as error:  # what safe_merge raises, and nothing else does here
            raise BadInput(
                f"adapter {self.adapter}: peft merges {self.name} to numbers that are not finite; the adapter does not "
                "fit this policy's weights, or its training diverged"
            ) from error
        result: Tensor = layer.get_base_layer().weight
        return result.detach()

    def _wrapped(self, linear: nn.Linear) -> nn.Module:
        """A policy with nothing but ``linear``, under its own name, in peft's layer."""
        peft = self._peft()
        policy = nn.Module()
        *parents, child = self.name.split(".")
        parent = policy
        for name in parents:
            parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
        parent.add_module(child, linear)
        with warnings.catch_warnings():
            for beside_the_point in _OF_OTHER_LINEARS, _OF_SAVING:
                warnings.filterwarnings("ignore", beside_the_point)
            config = peft.LoraConfig(**self.settings, target_modules=re.escape(self.name))
            return peft.inject_adapter_in_model(config, policy, low_cpu_mem_usage=linear.weight.is_meta)

    def _peft(self) -> Any:
        try:
            return importlib.import_module("peft")
        except ImportError as error:
            raise BadInput(
                f'adapter {self.adapter} is one of peft\'s, which only peft reads: pip install "vla-deploy[peft]"'
            ) from error
