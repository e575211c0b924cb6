"""Outcomes on disk: appended one by one, so that an evaluation that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import ValidationError

from vla_evaluation.outcome import Outcome
from vla_evaluation.request import Request
from vla_runtime.errors import BadInput

_ASKED, _LINES = "evaluation.json", "results.jsonl"


class Results:
    """The outcomes of one evaluation, in its directory.

    outcomes: by key, in the order they were finished.
    """

    def __init__(self, directory: Path, outcomes: dict[str, Outcome]) -> None:
        self.directory, self.outcomes = directory, outcomes

    @classmethod
    def open(cls, directory: Path, request: Request) -> Results:
        """Those already there, or none yet.

        Raises `BadInput` where the directory holds something else, or the results of another evaluation.
        """
        if directory.exists() and not directory.is_dir():
            raise BadInput(f"{directory} is not a directory: give another -o")
        asked, identity = directory / _ASKED, request.identity()
        if not asked.is_file():
            if directory.is_dir() and any(directory.iterdir()):
                raise BadInput(f"{directory} is in the way and holds no evaluation: give another -o")
            directory.mkdir(parents=True, exist_ok=True)
            partial = asked.with_name(f".{_ASKED}.partial")
            partial.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
            partial.replace(asked)
        else:
            _check_identity(directory, asked, identity)
        return cls(directory, _read(directory / _LINES))

    def add(self, outcome: Outcome) -> None:
        """Keep it, on disk first."""
        with (self.directory / _LINES).open("a", encoding="utf-8") as file:
            file.write(outcome.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.outcomes[outcome.key] = outcome


def _check_identity(directory: Path, asked: Path, identity: dict[str, object]) -> None:
    try:
        found = json.loads(asked.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{asked} is not readable ({error}): give another -o") from error
    for name, value in identity.items():
        if not isinstance(found, dict) or found.get(name) != value:
            was = found.get(name) if isinstance(found, dict) else None
            raise BadInput(
                f"{directory} holds another evaluation ({name} was {_short(was)}, now {_short(value)}): "
                "give another -o, or the same arguments to continue it"
            )


def _read(path: Path) -> dict[str, Outcome]:
    """Whole lines only: what an interruption left of the last one is cut off, and its episode runs again."""
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(whole, encoding="utf-8")
        partial.replace(path)
    outcomes = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            outcome = Outcome.model_validate_json(line)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise BadInput(f"{path}:{number} is no outcome of this version ({why}): give another -o") from error
        outcomes[outcome.key] = outcome
    return outcomes


def _short(value: object) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else repr(value)
