"""A thread whose failure is never lost."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable

from vla_runtime.errors import WorkFailed


class Worker:
    """Runs ``target(stopping)`` in a thread of its own until it returns.

    target: must return soon after the event it is given is set.
    on_failure: called from the thread with whatever ``target`` raised.
    """

    def __init__(
        self, name: str, target: Callable[[threading.Event], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._name = name
        self._stopping = threading.Event()
        self._on_failure = on_failure
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._future = self._pool.submit(target, self._stopping)
        self._future.add_done_callback(self._done)

    def _done(self, future: concurrent.futures.Future[None]) -> None:
        error = future.exception()
        if error is not None:
            self._on_failure(error)

    def stop(self, timeout: float) -> None:
        """Ask the thread to end and wait for it; raises `WorkFailed` where it is still busy after ``timeout`` [s]."""
        self._stopping.set()
        self._pool.shutdown(wait=False)
        try:
            self._future.exception(timeout)
        except concurrent.futures.TimeoutError as error:
            raise WorkFailed(f"the {self._name} thread did not end within {timeout:g} s") from error
