"""Finetuning: what was cut stays cut, what is left learns, and the checkpoint keeps its form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reference.architecture import untrained
from reference.checkpoint import Statistics, Words, write_policy
from reference.vocabulary import LIMIT, word_tokenizer
from results import finetune as module
from results.finetune import finetune_on
from tests.reference.toy_demonstrations import SIZES, write_shards
from vla_export.checkpoints.reading import read
from vla_export.prune.pruned_checkpoint import read_structure, write_pruned_checkpoint
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_runtime.errors import BadInput

STEPS = 3
STATISTICS = Statistics(torch.zeros(7), torch.ones(7), torch.zeros(7), torch.ones(7))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    return write_shards(tmp_path / "data")


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    """Of three layers the middle one is gone, and of the first language layer all but its memory."""
    deeper = {name: replace(getattr(SIZES, name), depth=3) for name in ("language", "expert")}
    whole = tmp_path / "whole"
    whole.mkdir()
    model = untrained(replace(SIZES, **deeper), torch.Generator().manual_seed(0))
    write_policy(whole, model, STATISTICS, Words(word_tokenizer(), LIMIT), flow_steps=2)
    checkpoint = read(whole)
    structure = Structure.of(checkpoint.model)
    remove_layers(checkpoint.model, {"language": {1}, "expert": {1}})
    structure = structure.without({"language": {1}, "expert": {1}})
    keep_memory(checkpoint.model, "language", [0])
    structure = structure.remembering("language", [0])
    write_pruned_checkpoint(checkpoint, checkpoint.model, structure, tmp_path / "pruned")
    return tmp_path / "pruned"


def test_what_is_left_learns_and_keeps_its_names_and_its_structure(data: list[Path], pruned: Path) -> None:
    finetuned = finetune_on(data, pruned, "name", STEPS, batch=8)
    before, after = (load_file(path / "model.safetensors") for path in (pruned, finetuned))
    assert {name: tensor.shape for name, tensor in after.items()} == {n: t.shape for n, t in before.items()}
    assert read_structure(finetuned) == read_structure(pruned)
    assert {path.name for path in finetuned.iterdir()} == {path.name for path in pruned.iterdir()}
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    for part in ("vision_tower", "multi_modal_projector", "gemma_expert", "action_out_proj", "embed_tokens"):
        assert any(part in name for name in changed), part
    assert read(finetuned).model.config == read(pruned).model.config


def test_what_is_finished_is_kept_and_other_weights_are_another_training(data: list[Path], pruned: Path) -> None:
    finetuned = finetune_on(data, pruned, "name", STEPS, batch=8)
    made = (finetuned / "model.safetensors").stat().st_mtime_ns
    assert finetune_on(data, pruned, "name", STEPS, batch=8) == finetuned
    assert (finetuned / "model.safetensors").stat().st_mtime_ns == made
    further = finetune_on(data, finetuned, "name", STEPS, batch=8)
    assert further != finetuned
    assert len({path.read_bytes() for path in (further / "model.safetensors", finetuned / "model.safetensors")}) == 2
    longer = finetune_on(data, pruned, "name", STEPS + 1, batch=8)
    assert [json.loads(line)["step"] for line in (longer.parent / "log.jsonl").read_text().splitlines()] == [STEPS + 1]


def test_a_directory_without_a_checkpoint_is_refused(data: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing"):
        finetune_on(data, tmp_path / "nothing", "name", STEPS)
