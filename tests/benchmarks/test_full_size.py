"""Full-size checkpoints have the names, shapes and types of the real ones; here their sizes are cut down."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from benchmarks import full_size
from benchmarks.full_size import FAMILIES, LAYOUTS, write_full_size
from vla_export.checkpoints.contents import open_contents
from vla_export.checkpoints.layouts import read_layout
from vla_runtime.errors import BadInput

PAIRS = [(family, layout) for layout, (_, families) in LAYOUTS.items() for family in families]
full_shapes = full_size.full_shapes


@pytest.fixture(autouse=True)
def few_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor keeps its name and its number of axes, and has at most two numbers along each."""
    monkeypatch.setattr(
        full_size, "full_shapes", lambda f: {n: tuple(min(s, 2) for s in shape) for n, shape in full_shapes(f).items()}
    )


@pytest.mark.parametrize(("family", "layout"), PAIRS)
def test_the_reader_takes_it_for_the_published_policy(family: str, layout: str, tmp_path: Path) -> None:
    write_full_size(family, layout, tmp_path / "checkpoint")
    contents = open_contents(tmp_path / "checkpoint")
    config, _ = read_layout(contents)
    with torch.device("meta"):
        model = config.build(lambda token: 0)
    assert config.family == family
    expected = {config.keys.theirs(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = full_shapes(family)
    assert all(shapes[name] == shape for name, shape in expected.items())
    stored = {config.keys.newest(name) for name in contents.tensors}
    stored |= {name for name, stand_in in config.keys.stand_ins.items() if stand_in in stored}
    assert expected.keys() <= stored


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_are_stored_as_lerobot_stores_them(family: str, tmp_path: Path) -> None:
    write_full_size(family, "lerobot-0.6", tmp_path / "checkpoint")
    tensors = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert {name: tuple(t.shape) for name, t in tensors.items()} == full_size.full_shapes(family)
    half = {name for name, tensor in tensors.items() if tensor.dtype is torch.bfloat16}
    assert {tensor.dtype for name, tensor in tensors.items() if name not in half} == {torch.float32}
    assert bool(half) is (family != "smolvla")
    assert not [name for name in half if "vision_tower" in name or "layernorm" in name or "action" in name]
    with safe_open(tmp_path / "checkpoint" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_full_size("smolvla", "lerobot-0.6", tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_weights_keep_activations_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {
        "model.vlm.q_proj.weight": (300, 400),
        "model.vlm.patch_embedding.weight": (100, 3, 14, 14),
        "model.vlm.bias": (5000,),
        "model.vlm.text_model.norm.weight": (5000,),
        "model.paligemma_with_expert.gemma_expert.model.norm.weight": (5000,),
    }
    found = {
        name: torch.cat(list(full_size.draw(full_size.Drawn(name, shape), generator))) for name, shape in drawn.items()
    }
    assert all(values.numel() == prod(drawn[name]) for name, values in found.items())
    expected = [(0, 400**-0.5), (0, (3 * 14 * 14) ** -0.5), (0, 0.02), (1, 0.02), (0, 0.02)]
    for values, (mean, deviation) in zip(found.values(), expected, strict=True):
        assert values.mean().item() == pytest.approx(mean, abs=0.1 * deviation)
        assert values.std().item() == pytest.approx(deviation, rel=0.05)


def test_no_size_of_a_tiny_policy_is_left(tmp_path: Path) -> None:
    write_full_size("pi0", "lerobot-0.6", tmp_path / "checkpoint")
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert not {name for name in config if name.endswith("_config") and name != "rtc_config"}
    assert (config["chunk_size"], config["max_state_dim"], config["tokenizer_max_length"]) == (50, 32, 48)


def test_nothing_is_overwritten_and_no_layout_invented(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is there already"):
        write_full_size("pi0", "lerobot-0.6", tmp_path)
    with pytest.raises(BadInput, match="smolvla has no layout openpi"):
        write_full_size("smolvla", "openpi", tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []
