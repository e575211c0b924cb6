"""What --prune accepts, and the one line for what it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_export.prune.spec import (
    AutoPrune,
    CkaDepth,
    DivergenceWidth,
    GateDepth,
    PruneStep,
    PublishedDepth,
    parse_prune,
)
from vla_runtime.errors import BadInput


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ("cka:0.5", CkaDepth(0.5)),
        (" cka:.25 ", CkaDepth(0.25)),
        ("cka:1e-1", CkaDepth(0.1)),
        ("cka:vlm=0.5,expert=0.33", CkaDepth({"language": 0.5, "expert": 0.33})),
        ("cka:vision=0.25", CkaDepth({"vision": 0.25})),
        ("cka:paper", PublishedDepth()),
        ("gate:0.5", GateDepth(0.5, keep_memory=False)),
        ("gate:language=0.5, expert=0.25", GateDepth({"language": 0.5, "expert": 0.25}, keep_memory=False)),
        ("gate-kv:0.5", GateDepth(0.5, keep_memory=True)),
        ("divergence:light", DivergenceWidth("light", {}, absolute=False)),
        ("divergence:0.2,absolute", DivergenceWidth(None, 0.2, absolute=True)),
        (
            "divergence:vlm.mlp=0.3,language.heads=0.2,vision.mlp=0.1,absolute",
            DivergenceWidth(None, {"language.mlp": 0.3, "language.heads": 0.2, "vision.mlp": 0.1}, absolute=True),
        ),
        ("auto:0.6", AutoPrune(0.6, "flops", "gate")),
        ("auto:latency=0.6,depth=cka", AutoPrune(0.6, "latency", "cka")),
    ],
)
def test_every_form(spec: str, step: PruneStep) -> None:
    assert parse_prune(spec) == [step]


@pytest.mark.parametrize(
    "spec", ["cka:0.5", "cka:paper", "gate-kv:0.25", "divergence:0.2,absolute", "auto:flops=0.6,depth=gate-kv"]
)
def test_a_step_says_itself_as_it_was_said(spec: str) -> None:
    (step,) = parse_prune(spec)
    assert str(step) == spec


def test_a_comma_ends_a_step_only_before_a_method() -> None:
    expected = [CkaDepth({"language": 0.5, "expert": 0.33}), DivergenceWidth(None, {"language.mlp": 0.3}, True)]
    spec = "cka:vlm=0.5,expert=0.33,divergence:language.mlp=0.3,absolute"
    assert parse_prune(spec) == expected
    assert parse_prune(*spec.replace(",divergence", "|divergence").split("|")) == expected


def test_depth_comes_before_width() -> None:
    assert parse_prune("divergence:light", "gate:0.25", "cka:0.5") == [
        GateDepth(0.25, keep_memory=False),
        CkaDepth(0.5),
        DivergenceWidth("light", {}, absolute=False),
    ]


@pytest.mark.parametrize(
    "spec",
    ["cka:1.5", "cka:1", "cka:0", "cka:-0.5", "cka:nan", "cka:inf", "cka:x", "cka:", "cka", "foo:1", "", "cka:0.5,"],
)
def test_anything_else_is_one_line_with_the_allowed_form(spec: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_prune(spec)
    message = str(caught.value)
    assert message.startswith("--prune ")
    assert "cka:FRACTION with 0 < FRACTION < 1" in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("cka:0.5,expert=0.33", "'expert=0.33' is one part too many"),
        ("cka:vlm=0.5,0.33", "'0.33' is not NAME=NUMBER"),
        ("cka:vlm=0.5,language=0.33", "language is given twice"),
        ("cka:vlm=2", "2 is out of range"),
        ("cka:expert=", "'nothing' is not a number"),
        ("cka:paper,expert=0.5", "'expert=0.5' is one part too many"),
        ("gate", "gate needs an amount"),
        ("gate-kv:vlm=0.5", "'vlm=0.5' is not a number"),
        ("0.5", "unknown method"),
        ("cka:0.5,foo:0.2", "foo:0.2: unknown method"),
        ("divergence:", "'nothing' is not a number"),
        ("divergence:absolute", "absolute says how to rank"),
        ("divergence:heavy", "'heavy' is not a number"),
        ("divergence:light,vision.mlp=0.1", "'vision.mlp=0.1' is one part too many"),
        ("divergence:vision.attention=0.1", "'vision.attention' is no module"),
        ("divergence:expert.mlp=0.1", "the expert is never narrowed"),
        ("auto:time=0.5", "'time' is no measure"),
        ("auto:1.2", "1.2 is out of range"),
        ("auto:0.5,depth=size", "'depth=size' is no score"),
        ("auto:0.5,cka:0.5", "auto chooses depth and width itself"),
    ],
)
def test_the_part_that_cannot_be_meant_is_named(spec: str, part: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_prune(spec)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("specs", [("cka:0.5,cka:0.25",), ("cka:0.5", "cka:paper"), ("gate:0.5", "gate:0.5")])
def test_one_method_twice_is_refused(specs: tuple[str, ...]) -> None:
    with pytest.raises(BadInput, match="given twice"):
        parse_prune(*specs)


@given(st.text(alphabet="cka:gte-kv.0,=5 divrnlphou", max_size=24))
def test_whatever_is_typed_is_understood_or_refused_in_one_line(spec: str) -> None:
    try:
        assert parse_prune(spec)
    except BadInput as error:
        assert "\n" not in str(error)  # noqa: PT017  # most texts are refused, some are not
