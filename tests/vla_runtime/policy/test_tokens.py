"""Words into tokens: padding, limits, and never a truncated task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as TokenizerFile

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput
from vla_runtime.policy.tokens import MAX_CHARACTERS, TaskTokenizer

PROMPTS = json.loads((Path(__file__).parents[2] / "oracles" / "goldens" / "prompts.json").read_text())
STATE_TEMPLATE = "Task: {task}, State: {state};\nAction: "


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


def test_a_definition_is_as_good_as_its_file(file: Path) -> None:
    found, expected = (TaskTokenizer(given, config())("reach")[0] for given in (file.read_text(), file))
    np.testing.assert_array_equal(found, expected)


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


def with_state(**changes: Any) -> Tokenizer:
    fields = {"template": STATE_TEMPLATE, "plain_task": True, "state_bins": 256, "max_length": 200, "bos_id": None}
    return config(**{**fields, **changes})


def spelled(file: Path, found: tuple[np.ndarray, np.ndarray]) -> str:
    tokens, mask = found
    return str(TokenizerFile.from_file(str(file)).decode(tokens[mask].tolist()))


@pytest.mark.parametrize("prompt", [prompt for prompt in PROMPTS if prompt["task"]], ids=lambda prompt: prompt["task"])
def test_a_state_is_written_as_lerobot_writes_it(file: Path, prompt: dict[str, Any]) -> None:
    state = np.array(prompt["normalised_state"], np.float32)
    assert spelled(file, TaskTokenizer(file, with_state())(prompt["task"], state)) == prompt["pi05"]


def test_nothing_in_a_task_is_filled_in(file: Path) -> None:
    found = TaskTokenizer(file, with_state())("put {state} into {task}", np.zeros(2, np.float32))
    assert spelled(file, found) == "Task: put {state} into {task}, State: 128 128;\nAction: "


def test_only_a_plain_task_loses_its_underscores(file: Path) -> None:
    assert spelled(file, TaskTokenizer(file, config(bos_id=None))(" pick_up ")) == " pick_up \n"
    assert spelled(file, TaskTokenizer(file, config(bos_id=None, plain_task=True))(" pick_up\n")) == "pick up\n"
    with pytest.raises(BadInput, match="empty"):
        TaskTokenizer(file, config(plain_task=True))("_")


def test_the_longest_state_decides_whether_a_task_fits(file: Path) -> None:
    tokenizer = TaskTokenizer(file, with_state())
    values = (np.arange(-1, 256) + 0.5) / 128 - 1
    longest = max(int(tokenizer("reach", np.full(7, value))[1].sum()) for value in values)
    shortest = min(int(tokenizer("reach", np.full(7, value))[1].sum()) for value in values)
    assert longest > shortest
    TaskTokenizer(file, with_state(max_length=longest)).require_fit("reach", 7)
    with pytest.raises(BadInput, match=f"with a state of 7 numbers takes {longest} tokens, .* at most {longest - 1}"):
        TaskTokenizer(file, with_state(max_length=longest - 1)).require_fit("reach", 7)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text("abc cube", min_size=1, max_size=40).filter(str.strip),
    st.lists(st.floats(-2, 2, width=32), min_size=7, max_size=7),
)
def test_a_task_that_was_accepted_fits_with_every_state(file: Path, task: str, state: list[float]) -> None:
    tokenizer = TaskTokenizer(file, with_state(max_length=80))
    try:
        tokenizer.require_fit(task, 7)
    except BadInput:
        return
    tokenizer(task, np.array(state, np.float32))


@pytest.mark.parametrize(("bins", "state"), [(256, None), (None, np.zeros(2))])
def test_a_state_is_given_where_it_is_read(file: Path, bins: int | None, state: np.ndarray | None) -> None:
    tokenizer = TaskTokenizer(file, with_state() if bins else config())
    assert tokenizer.reads_state == (bins is not None)
    with pytest.raises(ValueError, match="part of the text"):
        tokenizer("reach", state)
