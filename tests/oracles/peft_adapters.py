"""Writes goldens from peft 0.21.2: small adapters as its ``save_pretrained`` writes them, and what they compute.

It runs offline, on the CPU, in an environment with ``torch==2.13.0 peft==0.21.2``:

    peft-env/bin/python tests/oracles/peft_adapters.py

Written under ``tests/oracles/goldens/peft``: for LoRA, rsLoRA, DoRA, both at once, PiSSA, PiSSA as
``save_pretrained`` turns it into a plain LoRA, and LoRA with patterns of ranks and alphas, a directory each with what
peft saves and ``outputs.safetensors``:

- ``base.NAME``: the weights before the adapter;
- ``merged.NAME``: the weights after ``merge_and_unload`` of the adapter loaded again from its files;
- ``x.NAME``, ``y.NAME``: tokens for each linear and its outputs with the adapter loaded but not merged.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).parent / "goldens" / "peft"
FORMS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "dora_rslora": {"use_dora": True, "use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_converted": {"init_lora_weights": "pissa"},
    "patterns": {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.0.down_proj": 5}},
}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(12, 8)
        self.down_proj = nn.Linear(8, 12, bias=False)


class Policy(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        for parameter in self.parameters():
            parameter.data.normal_(0.0, 0.3, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer.down_proj(layer.q_proj(x))
        return x


def write(name: str, options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(20_251_122)
    base = Policy(generator)
    outputs = {f"base.{key}": value.clone() for key, value in base.state_dict().items()}
    config = LoraConfig(r=3, lora_alpha=8, target_modules=["q_proj", "down_proj"], **options)
    model = get_peft_model(base, config)
    directory = ROOT / name
    with tempfile.TemporaryDirectory() as initial:
        if name == "pissa_converted":
            model.peft_config["default"].init_lora_weights = True
            model.save_pretrained(initial)
            model.peft_config["default"].init_lora_weights = "pissa"
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        converted = {"path_initial_model_for_weight_conversion": initial} if name == "pissa_converted" else {}
        model.save_pretrained(directory, **converted)
    (directory / "README.md").unlink()

    again = Policy(torch.Generator().manual_seed(20_251_122))
    loaded = PeftModel.from_pretrained(again, directory).eval()
    for path, module in loaded.named_modules():
        if path.endswith(("q_proj", "down_proj")):
            linear = path.removeprefix("base_model.model.")
            outputs[f"x.{linear}"] = torch.randn(5, module.in_features, generator=generator)
            outputs[f"y.{linear}"] = module(outputs[f"x.{linear}"]).detach()
    merged = loaded.merge_and_unload()
    outputs |= {f"merged.{key}": value.clone() for key, value in merged.state_dict().items()}
    save_file(outputs, directory / "outputs.safetensors")


if __name__ == "__main__":
    shutil.rmtree(ROOT, ignore_errors=True)
    for form, options in FORMS.items():
        write(form, options)
