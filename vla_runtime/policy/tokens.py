"""Task in words, and the state where it is part of them → token ids, padded to the length of the graphs."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Tokenizer
from vla_runtime.errors import BadInput

MAX_CHARACTERS = 1000


class TaskTokenizer:
    """Turns a task into the tokens of one policy; never truncates one."""

    def __init__(self, definition: Path | str, config: Tokenizer) -> None:
        """``definition`` is a tokenizer.json of the tokenizers library: where it lies, or what it holds."""
        self._config = config
        content = definition.read_text(encoding="utf-8") if isinstance(definition, Path) else definition
        self._tokenizer = tokenizers.Tokenizer.from_str(content)
        # A tokenizer.json may ask for both by itself; a truncated task is another task.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        if config.state_bins is not None:
            self._edges = np.linspace(-1, 1, config.state_bins + 1)[:-1]
            self._longest_bin = max(range(-1, config.state_bins), key=lambda bin: len(self._encode(f" {bin} {bin}")))

    @property
    def reads_state(self) -> bool:
        """Whether the state is part of the text."""
        return self._config.state_bins is not None

    def __call__(self, task: str, state: NDArray[Any] | None = None) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The tokens and which of them are real. Shapes (1, max_length), (1, max_length).

        state: normalised and padded; given where, and only where, it is part of the text. Shape (state.padded_to,).
        Each number becomes the index of its bin (lerobot/policies/pi05/processor_pi05.py).
        Raises `BadInput`, naming the limit, for a task that is empty, too long, or holds control characters.
        """
        if (state is not None) != self.reads_state:
            raise ValueError("the state is given where, and only where, it is part of the text")
        bins = None if state is None else (np.digitize(state, self._edges) - 1).tolist()
        ids = self._ids(task, bins)
        tokens = np.full((1, self._config.max_length), self._config.pad_id, np.int32)
        tokens[0, : len(ids)] = ids
        return tokens, np.arange(self._config.max_length)[None] < len(ids)

    def require_fit(self, task: str, numbers: int) -> None:
        """Raises `BadInput` for a task that would not fit beside a state of so many numbers, each of the longest."""
        self._ids(task, [self._longest_bin] * numbers)

    def _ids(self, task: str, bins: list[int] | None) -> list[int]:
        if self._config.plain_task:
            task = task.strip().replace("_", " ").replace("\n", " ")
        _check_characters(task)
        state = "" if bins is None else " ".join(map(str, bins))
        # the task is filled in last: nothing in it is taken for a part of the template
        ids = self._encode(self._config.template.replace("{state}", state).replace("{task}", task))
        if self._config.bos_id is not None:
            ids = [self._config.bos_id, *ids]
        limit = self._config.max_length
        if len(ids) > limit:
            beside = "" if bins is None else f" with a state of {len(bins)} numbers"
            raise BadInput(f"the task{beside} takes {len(ids)} tokens, this policy reads at most {limit}: shorten it")
        return ids

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _check_characters(task: str) -> None:
    if not task.strip():
        raise BadInput("the task is empty: say what the arm shall do")
    if len(task) > MAX_CHARACTERS:
        raise BadInput(f"the task has {len(task)} characters, the limit is {MAX_CHARACTERS}: say it shorter")
    for character in task:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise BadInput(f"the task holds the control character {character!r}: give one line of plain text")
