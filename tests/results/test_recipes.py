"""Bundles are made once for the same recipe and the same files, and again for others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from results import recipes
from results.recipes import Recipe, export, export_all
from vla_runtime.errors import BadInput, WorkFailed

# In vla-export's place: notes its arguments and writes what stands for a bundle, or fails as it does.
STUB = """#!/usr/bin/env python3
import os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as file:
    print(os.environ["OMP_NUM_THREADS"], *sys.argv[1:], sep=";", file=file)
if "--refuse" in sys.argv:
    sys.exit("warning: first\\nerror: no such thing")
for flag in ("-o", "--save-pruned"):
    if flag in sys.argv:
        directory = pathlib.Path(sys.argv[sys.argv.index(flag) + 1])
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "manifest.json").write_text("{}")
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the stub, in which ``calls`` has a line for each time it ran."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "vla-export").write_text(STUB)
    (directory / "vla-export").chmod(0o755)
    monkeypatch.setattr(recipes.sys, "executable", str(directory / "python"))
    monkeypatch.setattr(recipes, "OUT", tmp_path / "out")
    return directory


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    checkpoint, recording = tmp_path / "checkpoint", tmp_path / "recording"
    for directory in (checkpoint, recording):
        directory.mkdir()
        (directory / "file").write_text("content")
    return Recipe("half", checkpoint, ("--prune", "cka:0.5", "--calibration", str(recording)))


def calls(program: Path) -> list[list[str]]:
    path = program / "calls"
    return [line.split(";") for line in path.read_text().splitlines()] if path.exists() else []


def test_the_words_are_the_recipes_own(recipe: Recipe, program: Path, tmp_path: Path) -> None:
    bundle = export(recipe)
    assert bundle == tmp_path / "out" / "bundles" / "half"
    threads, checkpoint, *flags = calls(program)[0]
    assert (threads, checkpoint) == ("1", str(recipe.checkpoint))
    assert flags == [*recipe.flags, "--json", "-o", str(bundle)]


def test_what_is_made_is_kept(recipe: Recipe, program: Path) -> None:
    assert export(recipe) == export(recipe)
    assert len(calls(program)) == 1


@pytest.mark.parametrize("directory", ["checkpoint", "recording"])
def test_another_content_is_another_bundle(recipe: Recipe, program: Path, tmp_path: Path, directory: str) -> None:
    export(recipe)
    (tmp_path / directory / "file").write_text("other content")
    export(recipe)
    assert len(calls(program)) == 2


def test_other_words_or_a_missing_bundle_are_made_again(recipe: Recipe, program: Path) -> None:
    export(recipe)
    export(replace(recipe, flags=()))
    assert len(calls(program)) == 2
    (export(replace(recipe, flags=())) / "manifest.json").unlink()
    export(replace(recipe, flags=()))
    assert len(calls(program)) == 3


def test_a_saved_checkpoint_belongs_to_what_is_made(recipe: Recipe, program: Path, tmp_path: Path) -> None:
    saving = replace(recipe, flags=("--save-pruned", str(tmp_path / "pruned")))
    export(saving)
    (tmp_path / "pruned" / "manifest.json").write_text("trained on")
    export(saving)
    assert len(calls(program)) == 1
    (tmp_path / "pruned").rename(tmp_path / "elsewhere")
    export(saving)
    assert len(calls(program)) == 2


def test_a_failure_says_what_vla_export_said_and_is_tried_again(recipe: Recipe, program: Path) -> None:
    refused = replace(recipe, flags=("--refuse",))
    for _ in range(2):
        with pytest.raises(WorkFailed, match=r"vla-export of half: error: no such thing"):
            export(refused)
    assert len(calls(program)) == 2


def test_a_missing_recording_is_told_before_anything_runs(recipe: Recipe, program: Path) -> None:
    with pytest.raises(BadInput, match="/nowhere"):
        export(replace(recipe, flags=("--calibration", "/nowhere")))
    assert not calls(program)


def test_all_of_them_by_name_and_no_name_twice(recipe: Recipe, tmp_path: Path) -> None:
    whole = Recipe("whole", recipe.checkpoint)
    made = export_all([recipe, whole], workers=2)
    assert {name: path.name for name, path in made.items()} == {"half": "half", "whole": "whole"}
    assert json.loads((tmp_path / "out" / "bundles" / "whole.json").read_text())["flags"] == []
    with pytest.raises(ValueError, match="same name"):
        export_all([recipe, replace(whole, name="half")], workers=1)
