"""Task in words → token ids, padded to the length the graphs were exported with."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput

MAX_CHARACTERS = 1000


class TaskTokenizer:
    """Turns a task into the tokens of one policy; never truncates one."""

    def __init__(self, file: Path, config: Tokenizer) -> None:
        self._config = config
        self._tokenizer = tokenizers.Tokenizer.from_file(str(file))
        # A tokenizer.json may ask for both by itself; a truncated task is another task.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, task: str) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The tokens and which of them are real. Shapes (1, max_length), (1, max_length).

        Raises `BadInput`, naming the limit, for a task that is empty, too long, or holds control characters.
        """
        _check_characters(task)
        text = self._config.template.replace("{task}", task)
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._config.bos_id is not None:
            ids = [self._config.bos_id, *ids]
        limit = self._config.max_length
        if len(ids) > limit:
            raise BadInput(f"the task takes {len(ids)} tokens, this policy reads at most {limit}: say it shorter")
        tokens = np.full((1, limit), self._config.pad_id, np.int32)
        tokens[0, : len(ids)] = ids
        return tokens, np.arange(limit)[None] < len(ids)


def _check_characters(task: str) -> None:
    if not task.strip():
        raise BadInput("the task is empty: say what the arm shall do")
    if len(task) > MAX_CHARACTERS:
        raise BadInput(f"the task has {len(task)} characters, the limit is {MAX_CHARACTERS}: say it shorter")
    for character in task:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise BadInput(f"the task holds the control character {character!r}: give one line of plain text")
