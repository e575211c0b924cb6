"""Results on disk: continued, protected, and cut to whole lines."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.toy_bundle import write_toy_bundle
from tests.vla_evaluation.outcomes import outcome
from vla_evaluation.request import Request
from vla_evaluation.results import Results
from vla_runtime.errors import BadInput


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> Request:
    bundle = write_toy_bundle(tmp_path_factory.mktemp("results") / "toy")
    return Request(bundle, None, "reach", 3, 0, "runtime", None, False)


def test_what_was_added_is_there_again(tmp_path: Path, request_: Request) -> None:
    results = Results.open(tmp_path / "new", request_)
    assert results.outcomes == {}
    results.add(outcome(1))
    results.add(outcome(0, False))
    again = Results.open(tmp_path / "new", request_)
    assert list(again.outcomes.values()) == [outcome(1), outcome(0, False)]


def test_a_line_that_was_cut_off_is_forgotten(tmp_path: Path, request_: Request) -> None:
    Results.open(tmp_path, request_).add(outcome(1))
    lines = tmp_path / "results.jsonl"
    lines.write_text(lines.read_text() + outcome(2).model_dump_json()[:40])
    results = Results.open(tmp_path, request_)
    assert list(results.outcomes) == ["bundle-nominal-1"]
    results.add(outcome(3))
    assert list(Results.open(tmp_path, request_).outcomes) == ["bundle-nominal-1", "bundle-nominal-3"]


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"task": "lift"}, "task"), ({"seed": 7}, "seed"), ({"episodes": 4}, "episodes"), ({"swap": True}, "swap")],
)
def test_other_arguments_do_not_mix(tmp_path: Path, request_: Request, changed: dict[str, object], name: str) -> None:
    Results.open(tmp_path, request_)
    with pytest.raises(BadInput, match=rf"another evaluation \({name} was .*give another -o"):
        Results.open(tmp_path, dataclasses.replace(request_, **changed))  # type: ignore[arg-type]


def test_another_bundle_does_not_mix_and_a_moved_one_does(tmp_path: Path, request_: Request) -> None:
    Results.open(tmp_path / "out", request_)
    other = write_toy_bundle(tmp_path / "other", ramp=0.03)
    with pytest.raises(BadInput, match="bundle was"):
        Results.open(tmp_path / "out", dataclasses.replace(request_, bundle=other))
    moved = write_toy_bundle(tmp_path / "moved")
    Results.open(tmp_path / "out", dataclasses.replace(request_, bundle=moved))


def test_what_is_in_the_way_stays(tmp_path: Path, request_: Request) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadInput, match="holds no evaluation"):
        Results.open(tmp_path, request_)
    with pytest.raises(BadInput, match="not a directory"):
        Results.open(tmp_path / "thesis.tex", request_)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_line_of_something_else_is_named(tmp_path: Path, request_: Request) -> None:
    Results.open(tmp_path, request_).add(outcome(0))
    with (tmp_path / "results.jsonl").open("a") as lines:
        lines.write('{"key": "x"}\n')
    with pytest.raises(BadInput, match=r"results\.jsonl:2 is no outcome"):
        Results.open(tmp_path, request_)
