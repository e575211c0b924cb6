from __future__ import annotations

from pathlib import Path

import pytest

from tests.vla_export.checkpoints.layout_writers import in_shards
from vla_export.checkpoints.contents import open_contents
from vla_runtime.errors import BadInput


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no checkpoint in .*: expected config\.json and model\.safetensors"):
        open_contents(tmp_path)


def test_an_adapter_without_its_policy(tmp_path: Path) -> None:
    (tmp_path / "adapters.safetensors").touch()
    with pytest.raises(BadInput, match="adapter without its policy.*--adapter"):
        open_contents(tmp_path)


@pytest.mark.parametrize(
    ("missing", "left"), [("config.json", "model.safetensors"), ("model.safetensors", "config.json")]
)
def test_half_a_checkpoint(checkpoint: Path, missing: str, left: str) -> None:
    (checkpoint / missing).unlink()
    with pytest.raises(BadInput, match=f"half a checkpoint in .*: {left}, but no {missing}"):
        open_contents(checkpoint)


def test_a_pickle_is_named_and_not_opened(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.pt").touch()
    with pytest.raises(BadInput, match=r"no model\.safetensors; .* \(model\.pt may run code"):
        open_contents(checkpoint)


def test_only_headers_are_read(checkpoint: Path) -> None:
    whole = open_contents(checkpoint)
    in_shards(checkpoint)
    sharded = open_contents(checkpoint)
    assert {n: t.shape for n, t in whole.tensors.items()} == {n: t.shape for n, t in sharded.tensors.items()}


@pytest.mark.parametrize("text", ["{", "[]", '"pi0"'])
def test_a_config_that_is_no_json_object(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        open_contents(checkpoint)
