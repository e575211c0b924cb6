"""Words into tokens: padding, limits, and never a truncated task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as TokenizerFile

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput
from vla_runtime.policy.tokens import MAX_CHARACTERS, TaskTokenizer


@pytest.fixture
def file(toy_bundle: Callable[..., Bundle]) -> Path:
    return toy_bundle().path("tokenizer.json")


def config(**changes: Any) -> Tokenizer:
    fields: dict[str, Any] = {"file": "tokenizer.json", "max_length": 24, "pad_id": 0, "bos_id": 1}
    return Tokenizer(**{**fields, **changes})


def test_tokens_spell_the_template_and_padding_follows(file: Path) -> None:
    tokens, mask = TaskTokenizer(file, config(template="Task: {task};\n"))("reach {the} cube")
    assert tokens.shape == mask.shape == (1, 24)
    assert tokens.dtype == np.int32
    length = int(mask.sum())
    assert mask[0, :length].all()
    assert tokens[0, 0] == 1
    assert (tokens[0, length:] == 0).all()
    assert TokenizerFile.from_file(str(file)).decode(tokens[0, 1:length].tolist()) == "Task: reach {the} cube;\n"


def test_without_bos_nothing_is_prepended(file: Path) -> None:
    with_bos, _ = TaskTokenizer(file, config())("reach")
    without, _ = TaskTokenizer(file, config(bos_id=None))("reach")
    np.testing.assert_array_equal(with_bos[0, 1:], without[0, :-1])


def test_a_task_of_exactly_the_limit_is_read_whole(file: Path) -> None:
    longest, mask = TaskTokenizer(file, config())("x" * 22)  # bos, 22 unmergeable letters, newline
    assert mask.all()
    assert longest[0, -1] != 0


def test_one_token_more_is_refused_even_if_the_file_asks_for_truncation(file: Path, tmp_path: Path) -> None:
    truncating = TokenizerFile.from_file(str(file))
    truncating.enable_truncation(8)
    truncating.enable_padding(length=40)
    truncating.save(str(tmp_path / "truncating.json"))
    with pytest.raises(BadInput, match="takes 25 tokens, this policy reads at most 24"):
        TaskTokenizer(tmp_path / "truncating.json", config())("x" * 23)


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ("a" * 10_000, f"10000 characters, the limit is {MAX_CHARACTERS}"),
        ("", "empty"),
        (" \t ", "empty"),
        ("reach\nthe cube", "control character"),
        ("reach\x00", "control character"),
        ("reach \ud800", "control character"),
    ],
)
def test_refuses_with_one_short_line(file: Path, task: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as refusal:
        TaskTokenizer(file, config())(task)
    assert len(str(refusal.value)) < 200
