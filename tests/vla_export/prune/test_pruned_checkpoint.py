"""Pruned checkpoints: what the training project's layout has of them, read back strictly, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.vla_export.models.tiny_families import GOLDENS, golden, observed, relative_error
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.contents import open_contents
from vla_export.checkpoints.layouts import read_layout
from vla_export.checkpoints.reading import read
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_export.graph.precision import half
from vla_export.prune.channels import keep_channels
from vla_export.prune.cut_tensors import stored_before
from vla_export.prune.heads import keep_heads
from vla_export.prune.pruned_checkpoint import (
    STRUCTURE,
    cut_to_structure,
    read_structure,
    write_pruned_checkpoint,
)
from vla_export.prune.structure import Structure, apply_structure
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_runtime.errors import BadInput

DEEPER = ("pi0", "pi05", "smolvla")
LAYOUTS = (*DEEPER, *sorted(path.name for path in (GOLDENS / "layouts").iterdir() if path.is_dir()))


def layout(name: str) -> Path:
    return GOLDENS / name if name in DEEPER else GOLDENS / "layouts" / name


def cut(checkpoint: Checkpoint) -> Structure:
    """Layers, memory where there are enough of them, channels and heads, all at once."""
    model, structure = checkpoint.model, Structure.of(checkpoint.model)
    depth = len(model.stacks()["language"])
    removed = {0} if depth == 2 else {1}
    remove_layers(model, {"language": removed, "expert": removed})
    structure = structure.without({"language": removed, "expert": removed})
    if depth == 4:
        keep_memory(model, "language", {2})
        structure = structure.remembering("language", {2})
    for name, index, channels, heads in (("language", 0, range(3, 19), (0, 1)), ("vision", 1, range(7), (1,))):
        layer = list(model.stacks()[name])[index]
        keep_channels(layer.mlp, channels)
        keep_heads(layer.attention, heads, shared=name == "language")
        structure = structure.with_channels(name, index, channels).with_heads(name, index, heads)
    return structure


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        tensor.dtype == found[name].dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


@pytest.mark.parametrize("family", DEEPER)
@torch.no_grad()
def test_lerobot_computes_the_same_from_what_is_left(family: str, tmp_path: Path) -> None:
    """LeRobot's own policies cut by `cut_policy`: as many tensors, of the same names and shapes, and the same chunk."""
    cut_by_lerobot = GOLDENS / "pruned" / family
    file = read_structure(cut_by_lerobot)
    assert file is not None
    checkpoint = read(layout(family))
    apply_structure(checkpoint.model, file.structure, "structure.json")
    write_pruned_checkpoint(checkpoint, checkpoint.model, file.structure, tmp_path / "pruned")

    again = read(tmp_path / "pruned")
    seen = golden(family)
    inputs = observed(seen) | {"images": seen["images"][seen["image_mask"][0]]}
    chunk = again.model.sample(again.model.encode(inputs), seen["noise"], 10)
    assert relative_error(chunk, load_file(cut_by_lerobot / "outputs.safetensors")["chunk"]) < 1e-5
    assert relative_error(chunk, seen["chunk"]) > 0.1
    found = {f"{name} {list(t.shape)}" for name, t in load_file(tmp_path / "pruned" / "model.safetensors").items()}
    assert found == set((cut_by_lerobot / "tensors.txt").read_text().splitlines())
    written = read_structure(tmp_path / "pruned")
    assert written is not None
    assert written.layer_lists == file.layer_lists


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_written_as_it_is_read(name: str, tmp_path: Path) -> None:
    checkpoint = read(layout(name))
    structure = cut(checkpoint)
    out = tmp_path / "pruned"
    write_pruned_checkpoint(checkpoint, checkpoint.model, structure, out)

    again = read(out)
    assert same(again.model.state_dict(), checkpoint.model.state_dict())
    file = read_structure(out)
    assert file is not None
    assert (file.structure, file.family, file.checkpoint) == (structure, checkpoint.family, name)
    assert file.checkpoint_sha256 == checkpoint.sha256

    # The project's own names and types; what inference never reads is there too.
    before, after = load_file(layout(name) / "model.safetensors"), load_file(out / "model.safetensors")
    assert set(after) < set(before)
    unread = set(before) - set(checkpoint.weights.names.values())
    assert unread <= set(after)
    assert all(torch.equal(after[n], before[n]) for n in unread)
    assert {n: t.dtype for n, t in after.items()} == {n: before[n].dtype for n in after}
    lists = {f"{prefix}.{{}}." for prefix in file.layer_lists.values()}
    assert len(lists) == 3
    for prefix in file.layer_lists.values():
        indices = {int(n[len(prefix) + 1 :].split(".")[0]) for n in after if n.startswith(f"{prefix}.")}
        assert indices == set(range(len(indices)))
    # Every other file is there as it was.
    small = {p.relative_to(layout(name)) for p in layout(name).rglob("*") if p.is_file()} - {Path("model.safetensors")}
    written = {p.relative_to(out) for p in out.rglob("*") if p.is_file()}
    assert written == small | {Path(STRUCTURE), Path("model.safetensors")}
    assert all((out / p).read_bytes() == (layout(name) / p).read_bytes() for p in small)


def test_a_pruned_checkpoint_can_be_pruned_and_written_again(tmp_path: Path) -> None:
    checkpoint = read(layout("pi0"))
    write_pruned_checkpoint(checkpoint, checkpoint.model, cut(checkpoint), tmp_path / "once")
    once = read(tmp_path / "once")
    structure = Structure.of(once.model).without({"language": {1}, "expert": {1}})
    remove_layers(once.model, {"language": {1}, "expert": {1}})
    layer = list(once.model.stacks()["vision"])[1]
    keep_channels(layer.mlp, (0, 6))
    write_pruned_checkpoint(once, once.model, structure.with_channels("vision", 1, (0, 6)), tmp_path / "twice")

    twice = read(tmp_path / "twice")
    assert same(twice.model.state_dict(), once.model.state_dict())
    file = read_structure(tmp_path / "twice")
    assert file is not None
    assert (file.checkpoint, file.checkpoint_sha256) == ("pi0", checkpoint.sha256)
    assert file.structure.origins() == {"vision": (0, 1), "language": (0, 3), "expert": (0, 3)}
    assert [layer.memory for layer in file.structure.stacks["language"]] == [False, True]
    assert file.structure.stacks["language"][0].channels == tuple(range(3, 19))
    assert file.structure.stacks["vision"][1].channels == (0, 6)
    assert file.structure.stacks["vision"][1].heads == (1,)


def test_half_precision_costs_the_pruned_checkpoint_nothing(tmp_path: Path) -> None:
    """What was only moved or cut keeps the checkpoint's own values; what a stage changed has the model's."""
    exact, halved = read(layout("lerobot_0_4_smolvla")), read(layout("lerobot_0_4_smolvla"), half=True)
    structure = cut(exact)
    assert cut(halved) == structure
    halved.model.get_parameter("expert.layers.0.mlp.up_proj.weight").mul_(2)
    write_pruned_checkpoint(halved, halved.model, structure, tmp_path / "pruned")
    again = read(tmp_path / "pruned")
    expected = exact.model.state_dict()
    expected["expert.layers.0.mlp.up_proj.weight"] = expected["expert.layers.0.mlp.up_proj.weight"].half().float() * 2
    assert same(again.model.state_dict(), expected)
    half(again.model)
    assert same(again.model.state_dict(), halved.model.state_dict())


def test_shards_and_a_run_s_leftovers(tmp_path: Path) -> None:
    """Shards become one file; pickles, adapters and other directories are no part of a policy."""
    source = tmp_path / "source"
    shutil.copytree(layout("lerobot_0_4_pi05"), source)
    tensors = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    shards = {f"model-0000{n + 1}-of-00002.safetensors": sorted(tensors)[n::2] for n in range(2)}
    for shard, names in shards.items():
        save_file({name: tensors[name].bfloat16() for name in names}, source / shard)
    index = {"weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    for leftover in ("optimizer.pt", "adapters.safetensors", "adapters.json", "bundle/manifest.json"):
        (source / leftover).parent.mkdir(exist_ok=True)
        (source / leftover).write_bytes(b"{}")
    checkpoint = read(source)
    structure = cut(checkpoint)
    write_pruned_checkpoint(checkpoint, checkpoint.model, structure, tmp_path / "pruned")
    assert same(read(tmp_path / "pruned").model.state_dict(), checkpoint.model.state_dict())
    assert {t.dtype for t in StoredTensors.in_directory(tmp_path / "pruned").values()} == {"BF16"}
    written = {path.name for path in (tmp_path / "pruned").iterdir()}
    assert written == {path.name for path in layout("lerobot_0_4_pi05").iterdir()} | {STRUCTURE}


def test_what_the_checkpoint_held_for_a_pruned_tensor() -> None:
    checkpoint = read(layout("lerobot_0_3_pi0"))
    structure = cut(checkpoint)
    stored = stored_before(checkpoint.weights, checkpoint.model, structure)
    for name, tensor in checkpoint.model.state_dict().items():
        assert torch.equal(stored(name).float(), tensor)


def test_what_cannot_be_written_or_read_is_one_line(tmp_path: Path) -> None:
    checkpoint = read(layout("lerobot_0_4_pi0"))
    structure = Structure.of(checkpoint.model)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes").touch()
    with pytest.raises(BadInput, match="taken is in the way"):
        write_pruned_checkpoint(checkpoint, checkpoint.model, structure, tmp_path / "taken")
    linear = next(iter(checkpoint.model.stacks()["language"])).attention.q_proj
    linear.bias = torch.nn.Parameter(torch.zeros(linear.out_features))
    with pytest.raises(BadInput, match=r"has left tensors \(language.layers.0.attention.q_proj.bias"):
        write_pruned_checkpoint(checkpoint, checkpoint.model, structure, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / STRUCTURE).write_text('{"schema_version": 2}')
    with pytest.raises(BadInput, match="schema_version"):
        read_structure(tmp_path / "broken")
    with torch.device("meta"):
        model = read_layout(open_contents(layout("lerobot_0_4_pi05")))[0].build(lambda token: 0)
    checkpoint = read(layout("lerobot_0_4_pi0"))
    write_pruned_checkpoint(checkpoint, checkpoint.model, structure, tmp_path / "pi0")
    with pytest.raises(BadInput, match="is of a pi0 policy, config.json describes a pi05"):
        cut_to_structure(model, "pi05", tmp_path / "pi0")
