"""Spans: what was measured, the newest of it, from any thread."""

from __future__ import annotations

import threading

import pytest

from vla_runtime.profiling.spans import Spans


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_durations_by_stage_in_order() -> None:
    clock = Clock()
    spans = Spans(clock=clock)
    for stage, seconds in (("encode", 2.0), ("denoise", 1.0), ("encode", 3.0)):
        with spans.span(stage):
            clock.now += seconds
    assert spans.stages() == ("encode", "denoise")
    assert spans.seconds("encode").tolist() == [2, 3]
    assert spans.seconds("never").tolist() == []


def test_nested_spans_each_measure_their_own() -> None:
    clock = Clock()
    spans = Spans(clock=clock)
    with spans.span("outer"):
        clock.now += 1
        with spans.span("inner"):
            clock.now += 2
    assert spans.seconds("outer").tolist() == [3]
    assert spans.seconds("inner").tolist() == [2]


def test_only_the_newest_are_kept_and_clear_forgets() -> None:
    spans = Spans(capacity=3)
    for seconds in range(5):
        spans.record("a", seconds)
    assert spans.seconds("a").tolist() == [2, 3, 4]
    spans.clear()
    assert spans.stages() == ()


def test_a_failed_stage_is_no_measurement() -> None:
    spans = Spans()
    with pytest.raises(RuntimeError), spans.span("a"):
        raise RuntimeError
    assert spans.stages() == ()


def test_threads_lose_nothing() -> None:
    spans = Spans(capacity=100_000)

    def work(stage: str) -> None:
        for _ in range(2000):
            with spans.span(stage), spans.span("shared"):
                pass

    threads = [threading.Thread(target=work, args=(f"stage{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans.seconds("shared")) == 8000
    assert all(len(spans.seconds(f"stage{i}")) == 2000 for i in range(4))
