"""Which graphs a bundle will hold, and whether that lets the weights be read straight into half precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_export.request import parse_request
from vla_runtime.errors import BadInput


@pytest.mark.parametrize(
    ("precision", "trt", "half", "small", "large"),
    [
        (None, None, None, ("fp32",), ("fp16",)),
        (None, "fp16", None, ("fp32", "fp16"), ("fp16",)),
        (None, "fp32", False, ("fp32",), ("fp32", "fp16")),
        ("fp32", None, False, ("fp32",), ("fp32",)),
        ("fp32", "fp16", False, ("fp32", "fp16"), ("fp32", "fp16")),
        ("fp16", None, True, ("fp16",), ("fp16",)),
        ("fp16", "fp16", True, ("fp16",), ("fp16",)),
        ("fp16", "fp32", False, ("fp32", "fp16"), ("fp32", "fp16")),
        ("fp16,fp32", None, False, ("fp32", "fp16"), ("fp32", "fp16")),
        ("int8", None, False, ("int8",), ("int8",)),
        ("int8,fp32", "fp16", False, ("fp32", "int8", "fp16"), ("fp32", "int8", "fp16")),
        (" fp16, fp32 ", None, False, ("fp32", "fp16"), ("fp32", "fp16")),
    ],
)
def test_precisions_and_what_they_need(
    tmp_path: Path, precision: str | None, trt: str | None, half: bool | None, small: object, large: object
) -> None:
    request = parse_request(tmp_path, precision=precision, trt=trt)
    assert request.half is half
    assert request.wanted(large=False) == small
    assert request.wanted(large=True) == large


@pytest.mark.parametrize("word", ["fp8", "fp32,int3", "", "fp32,", "fp32,,fp16"])
def test_other_precisions_are_refused_by_name(tmp_path: Path, word: str) -> None:
    with pytest.raises(BadInput, match=f"--precision {word}: .* expected some of fp32, fp16, int8"):
        parse_request(tmp_path, precision=word)


@pytest.mark.parametrize("word", ["fp8", "int8", ""])
def test_engines_that_tensorrt_does_not_build_are_refused_by_name(tmp_path: Path, word: str) -> None:
    with pytest.raises(BadInput, match=f"--trt {word}: expected fp32 or fp16"):
        parse_request(tmp_path, trt=word)


def test_width_comes_after_depth_in_whatever_order_they_are_asked_for(tmp_path: Path) -> None:
    depth, width = "gate:0.5", "divergence:light"
    one, other = (
        parse_request(tmp_path, prune=flags, base=tmp_path).prune for flags in ((depth, width), (width, depth))
    )
    assert one == other
    assert [str(step) for step in one] == [depth, width]
