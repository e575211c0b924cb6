"""Progress bars for work that takes more than a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

Advance = Callable[[], None]


class StageProgress:
    """One bar per stage of an export, on standard error; silent where nobody watches (``quiet``)."""

    def __init__(self, quiet: bool = False) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=quiet,
        )

    def __enter__(self) -> StageProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, name: str, steps: int = 1) -> Iterator[Advance]:
        """A bar of ``steps`` steps; yields the function that completes one. Full when the block ends well."""
        bar = self._progress.add_task(name, total=steps)
        yield lambda: self._progress.advance(bar)
        self._progress.update(bar, completed=steps)
