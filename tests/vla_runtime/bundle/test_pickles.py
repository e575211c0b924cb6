"""Pickles are recognised by what they are; weights and text are not mistaken for one."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from vla_runtime.bundle.pickles import is_pickle

OBJECTS: list[Any] = [{"a": np.zeros(3)}, np.zeros(1 << 19), [1, 2, 3], Path("x")]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_every_binary_protocol(tmp_path: Path, protocol: int, number: int) -> None:
    (tmp_path / "file.data").write_bytes(pickle.dumps(OBJECTS[number], protocol))
    assert is_pickle(tmp_path / "file.data")


@pytest.mark.parametrize("protocol", [0, 1])
def test_text_protocols_that_import_something(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "file.json").write_bytes(pickle.dumps(Path("x"), protocol))
    assert is_pickle(tmp_path / "file.json")


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves(tmp_path: Path, zipped: bool) -> None:
    torch.save({"w": torch.zeros(3)}, tmp_path / "model.onnx", _use_new_zipfile_serialization=zipped)
    assert is_pickle(tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.PICKLE", "pytorch_model.bin", "last.ckpt"])
def test_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    assert is_pickle(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"json": "text."}',
        b"cat\ndog\n",
        b".",
        b"N.",
        b"\x08\x0a\x12\x07pytorch",  # an ONNX file
        b"\x80\x02" + np.random.default_rng(0).bytes(4096),  # weights that begin like a pickle
        save({"w": np.zeros(3)}),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert not is_pickle(tmp_path / "file")


def test_an_ordinary_zip_is_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.png", b"x")
    assert not is_pickle(tmp_path / "pictures.zip")
