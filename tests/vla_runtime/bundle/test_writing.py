"""A bundle appears whole or not at all, and never in place of something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle import bundle, writing
from vla_runtime.bundle.bundle import Bundle, sha256
from vla_runtime.bundle.manifest import Manifest
from vla_runtime.bundle.writing import BundleWriter
from vla_runtime.errors import BadInput


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refuse(files: dict[str, str]) -> Manifest:
    raise RuntimeError("no manifest")


def test_a_bundle_in_new_directories(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"]
    Bundle.open(tmp_path / "a" / "b")


def test_nothing_at_the_target_until_it_is_complete(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as writer:
        (writer.root / "file").write_text("x")
        assert writer.root.parent == tmp_path
        assert writer.root.name.startswith(".bundle.partial-")
        assert not (tmp_path / "bundle").exists()


def write_with(target: Path, build_manifest: Callable[[dict[str, str]], Manifest], files: dict[str, bytes]) -> None:
    with BundleWriter(target) as writer:
        for name, content in files.items():
            (writer.root / name).write_bytes(content)
        writer.finish(build_manifest)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        write_with(tmp_path / "bundle", refuse, {"file": b"x"})
    assert names(tmp_path) == []


def test_an_error_leaves_the_older_bundle(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "bundle", horizon=4)
    with pytest.raises(RuntimeError):
        write_with(tmp_path / "bundle", refuse, {})
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").manifest.horizon == 4


def test_a_complete_bundle_replaces_the_older_one(tmp_path: Path) -> None:
    write_toy_bundle(tmp_path / "bundle", horizon=4, precisions=("fp32", "fp16"))
    write_toy_bundle(tmp_path / "bundle", horizon=8)
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").manifest.horizon == 8


def test_a_failed_rename_puts_the_older_bundle_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy_bundle(tmp_path / "bundle", horizon=4)
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="disk"):
        write_toy_bundle(tmp_path / "bundle", horizon=8)
    assert names(tmp_path) == ["bundle"]
    assert Bundle.open(tmp_path / "bundle").manifest.horizon == 4


def test_a_bundle_holding_a_pickle_is_never_finished(tmp_path: Path) -> None:
    manifest = Bundle.open(write_toy_bundle(tmp_path / "toy")).manifest
    files = {name: (tmp_path / "toy" / name).read_bytes() for name in manifest.files}
    with pytest.raises(BadInput, match="pickle"):
        write_with(
            tmp_path / "bundle",
            lambda digests: manifest.model_copy(update={"files": digests}),
            {**files, "weights.pt": b"x"},
        )
    assert names(tmp_path) == ["toy"]


def test_other_directories_and_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("home", "file"):
        with pytest.raises(BadInput, match=name), BundleWriter(tmp_path / name):
            pass
    assert names(tmp_path) == ["file", "home"]
    assert names(tmp_path / "home") == ["thesis.tex"]


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    Bundle.open(write_toy_bundle(tmp_path / "bundle"))
    assert names(tmp_path) == ["bundle"]


def test_every_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy of billions of parameters takes a while to digest."""
    read: list[str] = []

    def counting(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(writing, "sha256", counting)
    monkeypatch.setattr(bundle, "sha256", counting)
    write_toy_bundle(tmp_path / "bundle")
    assert sorted(read) == sorted(set(read))
    assert set(read) >= {"encode.onnx", "golden.safetensors"}
