"""The words the reference policy reads, one token each, and every instruction it is trained on."""

from __future__ import annotations

from functools import cache

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from vla_runtime.sim.episode import TASKS, instruction
from vla_runtime.sim.scene import CUBES

PADDING, START, UNKNOWN = "<pad>", "<bos>", "<unk>"
LIMIT = 12  # tokens
NO_GOAL = -1


def instructions() -> dict[tuple[int, int, int], str]:
    """By indices of task, named cube and goal cube (`NO_GOAL` for tasks without one)."""
    found = {}
    for task, name in enumerate(TASKS):
        for colour, cube in enumerate(CUBES):
            goals = [n for n in range(len(CUBES)) if n != colour] if name == "place" else [NO_GOAL]
            for goal in goals:
                found[task, colour, goal] = instruction(name, cube, None if goal == NO_GOAL else CUBES[goal])
    return found


@cache
def word_tokenizer() -> Tokenizer:
    """Words in order of their first appearance; <bos> comes first in every text, unknown words are one token."""
    words = dict.fromkeys(word for text in instructions().values() for word in text.split())
    vocabulary = {word: n for n, word in enumerate((PADDING, START, UNKNOWN, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, vocabulary[START])]
    )
    return tokenizer


@cache
def instruction_tokens() -> Tensor:
    """Tokens of every instruction by task, cube and goal; all padding where there is none.

    Shape (tasks, cubes, cubes + 1, LIMIT) int32; goal `NO_GOAL` is the last.
    """
    tokenizer = word_tokenizer()
    padding = _id(PADDING)
    table = torch.full((len(TASKS), len(CUBES), len(CUBES) + 1, LIMIT), padding, dtype=torch.int32)
    for place, text in instructions().items():
        ids = tokenizer.encode(text).ids
        table[place][: len(ids)] = torch.tensor(ids, dtype=torch.int32)
    return table


def is_word(tokens: Tensor) -> Tensor:
    """Which tokens are no padding."""
    return tokens.ne(_id(PADDING))


def named_cube(tokens: Tensor) -> Tensor:
    """The cube whose colour a token is, by index, -1 for any other word; of the tokens' shape, int64."""
    cubes = torch.full(tokens.shape, -1, dtype=torch.int64, device=tokens.device)
    for n, cube in enumerate(CUBES):
        cubes[tokens == _id(cube)] = n
    return cubes


def _id(word: str) -> int:
    found = word_tokenizer().token_to_id(word)
    assert found is not None
    return found
