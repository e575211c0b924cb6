"""How every command of the project ends: a result, or one clear line and the exit code that belongs to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from vla_runtime.errors import BadInput, VlaError

DONE, FAILED, BAD_USAGE, PART_SKIPPED = 0, 1, 2, 3


class Parser(argparse.ArgumentParser):
    """Parses within `run`: bad usage is a `BadInput` like any other."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def run(main: Callable[[], int]) -> int:
    """Call ``main`` and turn a `VlaError` into one line on stderr and its exit code.

    Any other exception is a defect of ours and keeps its traceback.
    """
    try:
        return main()
    except VlaError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return FAILED
