"""The tables of docs/results.md, from what the studies found; everything between them is written by hand.

    python -m results.page

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``, and is replaced as a whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from results import figures
from results.page_tables import TABLES
from results.places import FIGURES, ROOT
from vla_runtime.command import DONE, PART_SKIPPED, Parser, run
from vla_runtime.errors import BadInput

PAGE = ROOT / "docs" / "results.md"
_TABLE = re.compile(r"(<!-- table: (?P<name>[a-z ]+) -->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str, studies: Mapping[str, Mapping[str, Any]]) -> str:
    """The page with the tables of these studies' figures; those of other studies stay as they are.

    Raises `BadInput` for a marker that names no table.
    """

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise BadInput(f"the page asks for a table '{name}': expected one of {', '.join(TABLES)}")
        study, write = TABLES[name]
        return f"{match[1]}{write(studies[study])}\n{match[4]}" if study in studies else match[0]

    return _TABLE.sub(replacement, text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 3 where a study's figures are missing."""
    return run(lambda: _page(PAGE, argv))


def _page(path: Path, argv: Sequence[str] | None) -> int:
    Parser(prog="python -m results.page", description="Fill in the tables of docs/results.md.").parse_args(argv)
    wanted = dict.fromkeys(table.study for table in TABLES.values())
    made = {study: figures.read(study) for study in wanted if (FIGURES / f"{study}.json").is_file()}
    text = filled(path.read_text(encoding="utf-8"), made)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    missing = [study for study in wanted if study not in made]
    if missing:
        Console(stderr=True).print(f"left as they were, for want of figures: {', '.join(missing)}")
    return PART_SKIPPED if missing else DONE


if __name__ == "__main__":
    sys.exit(main())
