"""A plan is found again only where every part of its key is the same and the file is whole."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from vla_runtime.engines.cache import PlanKey, cache_directory, is_built, plan_key, plan_path, store
from vla_runtime.errors import BadInput, WorkFailed

KEY = PlanKey(
    graph="fp16/encode.onnx",
    files={"fp16/encode.onnx": "a" * 64, "fp16/encode.onnx.data": "b" * 64},
    precision="fp16",
    device="Orin (8.7)",
    library="tensorrt 10.3.0",
    platform="Linux aarch64",
)
OTHERS = {
    "graph": {"graph": "fp16/denoise.onnx"},
    "graph's bytes": {"files": {**KEY.files, "fp16/encode.onnx": "c" * 64}},
    "weights": {"files": {**KEY.files, "fp16/encode.onnx.data": "c" * 64}},
    "precision": {"precision": "fp32"},
    "device": {"device": "no-gpu:SM86+SM89"},
    "version": {"library": "tensorrt 10.7.0"},
    "library": {"library": "tensorrt_rtx 10.3.0"},
    "platform": {"platform": "Linux x86_64"},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vla_runtime" / "engines"


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS.keys())
def test_every_part_changes_the_plan(change, toy_bundle):
    bundle = toy_bundle()
    other = replace(KEY, **change)
    assert other.digest != KEY.digest
    assert plan_path(bundle, other) != plan_path(bundle, KEY)
    store(plan_path(bundle, KEY), KEY, b"plan")
    assert not is_built(plan_path(bundle, KEY), other)


def test_the_order_of_files_does_not_matter():
    assert replace(KEY, files=dict(reversed(KEY.files.items()))).digest == KEY.digest


def test_a_stored_plan_is_found(toy_bundle, own_cache):
    path = plan_path(toy_bundle(), KEY)
    assert path.parent == own_cache
    assert not is_built(path, KEY)
    store(path, KEY, memoryview(b"a plan"))
    assert is_built(path, KEY)
    assert path.read_bytes() == b"a plan"
    assert json.loads(path.with_suffix(".json").read_text())["key"]["device"] == "Orin (8.7)"
    assert sorted(file.name for file in own_cache.iterdir()) == sorted([path.name, path.with_suffix(".json").name])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"a pla"),
        lambda path: path.write_bytes(b"another plan"),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("{"),
        lambda path: path.with_suffix(".json").write_bytes(b"\xff"),
        lambda path: path.with_suffix(".json").write_text("[]"),
    ],
)
def test_a_damaged_plan_counts_as_none(damage, toy_bundle):
    path = plan_path(toy_bundle(), KEY)
    store(path, KEY, b"a plan")
    damage(path)
    assert not is_built(path, KEY)
    store(path, KEY, b"a plan")
    assert is_built(path, KEY)


def test_only_the_user_can_write_where_code_is_loaded_from(toy_bundle, own_cache):
    store(plan_path(toy_bundle(), KEY), KEY, b"a plan")
    assert stat.S_IMODE(own_cache.stat().st_mode) == 0o700


def test_a_cache_inside_the_bundle_is_refused(toy_bundle, monkeypatch):
    bundle = toy_bundle()
    monkeypatch.setenv("XDG_CACHE_HOME", str(bundle.root / "engines"))
    with pytest.raises(BadInput, match="inside the bundle"):
        plan_path(bundle, KEY)


@pytest.mark.parametrize("value", ["", "relative/cache"])
def test_without_an_absolute_cache_home_it_is_in_the_users_own(value, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "vla_runtime" / "engines"


def test_a_cache_that_cannot_be_written_fails_in_words(toy_bundle, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(WorkFailed, match="cannot be kept in"):
        store(plan_path(toy_bundle(), KEY), KEY, b"a plan")


def test_the_key_covers_the_graph_and_all_that_may_be_its_weights(toy_bundle):
    bundle = toy_bundle()
    files = {**bundle.manifest.files, "weights.bin": "d" * 64, "report/index.html": "e" * 64}
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"files": files}))
    key = plan_key(bundle, "denoise.onnx", "fp32", "GPU", "tensorrt 10.3.0")
    assert key.files == {"denoise.onnx": files["denoise.onnx"], "weights.bin": "d" * 64}
