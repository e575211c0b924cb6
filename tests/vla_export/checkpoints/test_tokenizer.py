from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import processors

from vla_export.checkpoints.tokenizer import CheckpointTokenizer, load_tokenizer, read_tokenizer
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput
from vla_runtime.policy.tokens import TaskTokenizer

NAME, TASK = "google/paligemma-3b-pt-224", "pick up the red cube"


def found(directory: Path, vocabulary: int = 1000) -> Tokenizer:
    return read_tokenizer(directory, NAME, "{task}\n", 24, vocabulary)


def loaded(directory: Path, vocabulary: int = 1000, **options: Any) -> CheckpointTokenizer:
    settings: dict[str, Any] = {"template": "{task}\n", "max_length": 24, "sentencepiece_bos": True} | options
    return load_tokenizer(directory, NAME, vocabulary, **settings)


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


def test_the_file_goes_into_the_bundle_as_it_is(checkpoint: Path) -> None:
    tokenizer = loaded(checkpoint)
    assert tokenizer.definition == (checkpoint / "tokenizer.json").read_text()
    assert tokenizer.config == found(checkpoint)


def test_what_fills_the_template_is_declared(checkpoint: Path) -> None:
    template = "Task: {task}, State: {state};\nAction: "
    config = loaded(checkpoint, template=template, state_bins=256, plain_task=True).config
    assert (config.template, config.state_bins, config.plain_task) == (template, 256, True)


def add_token(directory: Path, content: str, special: bool = True) -> int:
    path = directory / "tokenizer.json"
    tokenizer = TokenizerFile.from_file(str(path))
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([content])
    tokenizer.save(str(path))
    token = tokenizer.token_to_id(content)
    assert token is not None
    return token


def test_a_token_added_beyond_the_embedding_is_left_out(checkpoint: Path) -> None:
    """PaliGemma's <image> is: its row exists in no policy, and its name in a task is only text."""
    before = TokenizerFile.from_file(str(checkpoint / "tokenizer.json"))
    beyond = add_token(checkpoint, "<image>")
    tokenizer = TokenizerFile.from_str(loaded(checkpoint, vocabulary=beyond).definition)
    assert tokenizer.token_to_id("<image>") is None
    for text in ("<image>", TASK, f"<bos>{TASK}<image>\n"):
        assert tokenizer.encode(text).ids == before.encode(text).ids
    assert TokenizerFile.from_str(loaded(checkpoint, vocabulary=beyond + 1).definition).token_to_id("<image>") == beyond


def test_another_models_vocabulary_is_refused(checkpoint: Path) -> None:
    with pytest.raises(BadInput, match="the policy embeds 20"):
        loaded(checkpoint, vocabulary=20)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("token", ["<|im_end|>", {"content": "<|im_end|>"}])
def test_the_padding_token_goes_by_any_name(file: str, token: object, checkpoint: Path) -> None:
    padding = add_token(checkpoint, "<|im_end|>")
    (checkpoint / file).write_text(json.dumps({"pad_token": token}))
    assert loaded(checkpoint).config.pad_id == padding


def test_without_a_padding_token_any_serves(checkpoint: Path) -> None:
    path = checkpoint / "tokenizer.json"
    path.write_text(path.read_text().replace("<pad>", "<other>"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"pad_token": None}))
    assert loaded(checkpoint).config.pad_id == 0


@pytest.fixture(scope="module")
def sentencepiece_model() -> bytes:
    """Laid out as PaliGemma's is."""
    model = BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([TASK, "put the blue block on the table", "open the drawer 12 34"]),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        user_defined_symbols=["\n", "<loc0000>"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture
def trained_by_openpi(tmp_path: Path, sentencepiece_model: bytes) -> Path:
    assets = tmp_path / "openpi" / "assets"
    assets.mkdir(parents=True)
    (assets / "paligemma_tokenizer.model").write_bytes(sentencepiece_model)
    return assets.parent


@pytest.mark.parametrize("task", [TASK, "open  the drawer", "füll die Tasse <loc0000>"])
def test_the_robot_tokenizes_as_sentencepiece_does(
    task: str, trained_by_openpi: Path, sentencepiece_model: bytes, tmp_path: Path
) -> None:
    tokenizer = loaded(trained_by_openpi, max_length=48)
    (tmp_path / tokenizer.config.file).write_text(tokenizer.definition, encoding="utf-8")
    tokens, mask = TaskTokenizer(tmp_path / tokenizer.config.file, tokenizer.config)(task)
    expected = SentencePieceProcessor(model_proto=sentencepiece_model).encode(f"{task}\n", add_bos=True)
    assert tokens[mask].tolist() == expected
    assert set(tokens[~mask].tolist()) == {0}


def test_whether_a_sentencepiece_bos_goes_first_is_the_policys(trained_by_openpi: Path) -> None:
    assert loaded(trained_by_openpi).config.bos_id == 2
    assert loaded(trained_by_openpi, sentencepiece_bos=False).config.bos_id is None


def test_a_tokenizer_json_goes_before_a_sentencepiece_model(checkpoint: Path, trained_by_openpi: Path) -> None:
    (trained_by_openpi / "tokenizer.model").write_bytes(b"not read")
    shutil.copy(checkpoint / "tokenizer.json", trained_by_openpi / "assets")
    assert loaded(trained_by_openpi) == loaded(checkpoint)


def test_a_sentencepiece_model_must_fit_the_policy(trained_by_openpi: Path) -> None:
    with pytest.raises(BadInput, match=r"paligemma_tokenizer\.model has .* the policy embeds 20"):
        loaded(trained_by_openpi, vocabulary=20)


def test_two_sentencepiece_models_are_one_too_many(trained_by_openpi: Path, sentencepiece_model: bytes) -> None:
    (trained_by_openpi / "assets" / "other.model").write_bytes(sentencepiece_model)
    with pytest.raises(BadInput, match=r"other\.model, paligemma_tokenizer\.model"):
        loaded(trained_by_openpi)


def test_no_tokenizer_names_the_one_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer\.json and no sentencepiece .*google/paligemma-3b-pt-224"):
        loaded(tmp_path)
