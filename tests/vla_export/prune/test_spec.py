"""What --prune accepts, and the one line for what it does not."""

from __future__ import annotations

import pytest

from vla_export.prune.spec import CkaDepth, parse_prune
from vla_runtime.errors import BadInput


@pytest.mark.parametrize(("spec", "fraction"), [("cka:0.5", 0.5), (" cka:.25 ", 0.25), ("cka:1e-1", 0.1)])
def test_a_fraction_of_the_layers(spec: str, fraction: float) -> None:
    assert parse_prune(spec) == [CkaDepth(fraction)]


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


@pytest.mark.parametrize("spec", ["divergence:light", "divergence:0.2", "cka:0.5,divergence:0.2"])
def test_divergence_is_named_as_not_available(spec: str) -> None:
    with pytest.raises(BadInput, match="not available yet"):
        parse_prune(spec)


def test_one_method_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="given twice"):
        parse_prune("cka:0.5,cka:0.25")
