import threading

import pytest

from vla_runtime.errors import WorkFailed
from vla_runtime_ros.worker import Worker


def test_it_runs_until_it_is_stopped() -> None:
    ended = threading.Event()

    def target(stopping: threading.Event) -> None:
        stopping.wait()
        ended.set()

    worker = Worker("w", target, lambda error: pytest.fail(f"{error!r}"))
    assert not ended.is_set()
    worker.stop(5.0)
    assert ended.is_set()


def test_what_it_raises_is_reported() -> None:
    failures: list[BaseException] = []
    reported = threading.Event()

    def report(error: BaseException) -> None:
        failures.append(error)
        reported.set()

    def target(stopping: threading.Event) -> None:
        raise KeyError("joint7")

    worker = Worker("w", target, report)
    assert reported.wait(5.0)
    worker.stop(5.0)
    assert isinstance(failures[0], KeyError)


def test_a_thread_that_does_not_end_is_an_error() -> None:
    release = threading.Event()
    worker = Worker("stubborn", lambda stopping: release.wait(), lambda error: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(WorkFailed, match="stubborn"):
        worker.stop(0.05)
    release.set()
