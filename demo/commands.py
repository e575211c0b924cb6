"""The project's commands, run as a user would type them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vla_runtime.command import DONE
from vla_runtime.errors import WorkFailed


def run_command(words: Sequence[str], directory: Path, good: Sequence[int] = (DONE,), quiet: bool = False) -> str:
    """Run a command in a directory and return what it printed, if ``quiet``; else it prints for itself.

    Raises `WorkFailed` for an exit code that is not among ``good``.
    """
    beside_python = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        words,
        cwd=directory,
        env={**os.environ, "PATH": beside_python},
        stdout=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode not in good:
        raise WorkFailed(f"{' '.join(words)} ended with exit code {done.returncode}")
    return done.stdout or ""
