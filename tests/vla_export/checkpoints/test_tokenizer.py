from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import processors

from vla_export.checkpoints.tokenizer import read_tokenizer
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput


def found(directory: Path, vocabulary: int = 1000) -> Tokenizer:
    return read_tokenizer(directory, "google/paligemma-3b-pt-224", "{task}\n", 24, vocabulary)


def replace_post_processor(directory: Path, processor: object) -> None:
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text())
    content["post_processor"] = processor
    path.write_text(json.dumps(content))


def test_the_tokenizer_tells_which_token_comes_first(checkpoint: Path) -> None:
    tokenizer = found(checkpoint)
    assert (tokenizer.file, tokenizer.pad_id, tokenizer.bos_id, tokenizer.max_length) == ("tokenizer.json", 0, 2, 24)


def test_one_that_adds_nothing_has_no_first_token(checkpoint: Path) -> None:
    replace_post_processor(checkpoint, None)
    assert found(checkpoint).bos_id is None


@pytest.mark.parametrize("bos", ["<bos>", {"content": "<bos>", "special": True}])
def test_transformers_may_add_it_instead(checkpoint: Path, bos: object) -> None:
    replace_post_processor(checkpoint, None)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": bos}))
    assert found(checkpoint).bos_id == 2


def test_a_first_token_that_does_not_exist_is_refused(checkpoint: Path) -> None:
    replace_post_processor(checkpoint, None)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True, "bos_token": "<start>"}))
    with pytest.raises(BadInput, match="<start>"):
        found(checkpoint)


def test_a_token_after_the_text_is_refused(checkpoint: Path) -> None:
    tokenizer = TokenizerFile.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(checkpoint / "tokenizer.json"))
    with pytest.raises(BadInput, match="tokenizer.json"):
        found(checkpoint)


def test_a_missing_file_names_the_tokenizer_to_fetch(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    with pytest.raises(BadInput, match="no tokenizer.json in .*google/paligemma-3b-pt-224"):
        found(checkpoint)


def test_another_models_tokenizer_is_refused(checkpoint: Path) -> None:
    with pytest.raises(BadInput, match="the policy embeds 20"):
        found(checkpoint, vocabulary=20)


def test_a_broken_file_is_one_line(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text("{}")
    with pytest.raises(BadInput, match="tokenizer.json"):
        found(checkpoint)
