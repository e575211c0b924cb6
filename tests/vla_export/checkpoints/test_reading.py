from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vla_export.checkpoints.reading import read
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.models.pi0 import Pi0
from vla_runtime.errors import BadInput

VLM = "model.paligemma_with_expert.paligemma"


def test_a_lerobot_checkpoint_becomes_a_model_and_its_interface(checkpoint: Path) -> None:
    found = read(checkpoint)
    assert found.family == "pi0"
    assert isinstance(found.model, Pi0)
    assert not found.model.training
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in found.model.parameters())
    assert found.sha256 == hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    interface = found.interface
    assert [(c.name, c.height, c.width) for c in interface.cameras] == [("side", 42, 42), ("wrist", 42, 42)]
    assert (interface.horizon, interface.rate, interface.flow_steps) == (11, 10.0, 10)
    assert (len(interface.state.dimensions), interface.state.padded_to) == (7, 10)
    assert (len(interface.action.dimensions), interface.action.padded_to) == (7, 9)
    assert interface.action.dimensions[6].unit == "m"
    assert interface.tokenizer_definition == (checkpoint / "tokenizer.json").read_text()


def test_weights_may_come_from_elsewhere(checkpoint: Path, tmp_path: Path) -> None:
    expected = read(checkpoint)
    moved = tmp_path / "policy.safetensors"
    (checkpoint / "model.safetensors").rename(moved)
    found = read(checkpoint, tensors=StoredTensors.in_file(moved))
    assert found.sha256 == expected.sha256
    theirs = expected.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.model.state_dict().items())
    (checkpoint / "config.json").unlink()
    with pytest.raises(BadInput, match=r"no config\.json in .*, which says what policy the weights in .*policy"):
        read(checkpoint, tensors=StoredTensors.in_file(moved))


def test_weights_from_elsewhere_are_read_as_strictly(checkpoint: Path, tmp_path: Path) -> None:
    """And not made up for by those that lie in the checkpoint."""
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors["model.action_out_proj.bias"]
    save_file(tensors, tmp_path / "policy.safetensors")
    with pytest.raises(BadInput, match=r"1 missing: model\.action_out_proj\.bias"):
        read(checkpoint, tensors=StoredTensors.in_file(tmp_path / "policy.safetensors"))


def test_statistics_come_from_the_processors(checkpoint: Path) -> None:
    stored = load_file(checkpoint / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    action = read(checkpoint).interface.action.normalisation
    assert action.offset == tuple(stored["action.mean"].double().tolist())
    assert action.scale == tuple(stored["action.std"].double().tolist())
    assert action != read(checkpoint).interface.state.normalisation


def test_ignored_tensors_are_listed_with_a_reason(checkpoint: Path) -> None:
    ignored = read(checkpoint).weights.ignored
    assert set(ignored) == {
        f"{VLM}.lm_head.weight",
        f"{VLM}.model.language_model.norm.weight",
        "model.paligemma_with_expert.gemma_expert.lm_head.weight",
    }
    assert all(ignored.values())


def test_every_linear_is_found_by_its_name_in_either_release(checkpoint: Path) -> None:
    found = read(checkpoint)
    stored = load_file(checkpoint / "model.safetensors")
    linears = {name for name, module in found.model.named_modules() if isinstance(module, nn.Linear)}
    assert set(found.modules.values()) == linears
    for theirs, ours in found.modules.items():
        if f"{theirs}.weight" in stored:
            assert torch.equal(found.model.get_submodule(ours).weight, stored[f"{theirs}.weight"])
    for release in ("model.language_model", "language_model.model"):
        theirs = f"{VLM}.{release}.layers.2.self_attn.q_proj"
        assert found.modules[theirs] == "language.layers.2.attention.q_proj"
    assert (
        found.modules[f"{VLM}.vision_tower.vision_model.encoder.layers.1.self_attn.out_proj"]
        == "vision.stack.layers.1.attention.o_proj"
    )
    assert found.modules[f"{VLM}.multi_modal_projector.linear"] == "projector"
    assert (
        found.modules["model.paligemma_with_expert.gemma_expert.model.layers.3.mlp.down_proj"]
        == "expert.layers.3.mlp.down_proj"
    )
