"""The command line that every study has."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from vla_runtime.command import Parser

QUICK_EPISODES = 4


@dataclass(frozen=True)
class Arguments:
    """episodes: of each row. workers: processes. quick: a trial whose figures and pictures are not kept."""

    episodes: int
    workers: int
    quick: bool


def arguments(study: str, about: str, argv: Sequence[str] | None = None) -> Arguments:
    """What ``python -m results.STUDY`` is told; raises `BadInput` for bad usage."""
    parser = Parser(prog=f"python -m results.{study}", description=about)
    parser.add_argument("--episodes", type=_count, metavar="N", help="seeds of each row (default 100)")
    parser.add_argument("--workers", type=_count, default=2, metavar="W", help="processes (default 2)")
    parser.add_argument(
        "--quick", action="store_true", help=f"a trial: {QUICK_EPISODES} episodes, nothing is written into docs"
    )
    found = parser.parse_args(argv)
    episodes = found.episodes or (QUICK_EPISODES if found.quick else 100)
    return Arguments(episodes, found.workers, found.quick)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)
