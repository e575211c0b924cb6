"""What a manifest refuses to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.manifest import Manifest, Normalisation


@pytest.fixture
def fields(toy_bundle: Callable[..., Bundle]) -> dict[str, Any]:
    return toy_bundle().manifest.model_dump(mode="json")


@pytest.mark.parametrize(("number", "unit"), [(0, "deg"), (6, "mm")])
def test_a_relative_action_has_the_units_of_the_state(fields: dict[str, Any], number: int, unit: str) -> None:
    fields["action"]["relative"] = [True] * 7
    Manifest.model_validate(fields)
    fields["action"]["dimensions"][number]["unit"] = unit
    with pytest.raises(ValidationError, match="of the action is relative, but"):
        Manifest.model_validate(fields)
    fields["action"]["relative"][number] = False
    Manifest.model_validate(fields)


def test_a_relative_action_has_a_state_to_count_from(fields: dict[str, Any]) -> None:
    fields["action"]["relative"] = [False] * 6 + [True]
    state = fields["state"]
    state["dimensions"] = state["dimensions"][:6]
    state["normalisation"] = {what: state["normalisation"][what][:6] for what in ("offset", "scale")} | {
        "mode": "mean_std"
    }
    with pytest.raises(ValidationError, match=r"gripper \[m\] of the action is relative, but not number 6 of"):
        Manifest.model_validate(fields)


@pytest.mark.parametrize(("relative", "fits"), [([], True), ([True] * 7, True), ([True] * 6, False)])
def test_relative_names_every_dimension_or_none(fields: dict[str, Any], relative: list[bool], fits: bool) -> None:
    fields["action"]["relative"] = relative
    if fits:
        Manifest.model_validate(fields)
    else:
        with pytest.raises(ValidationError, match="one per dimension, or none"):
            Manifest.model_validate(fields)


def test_nothing_is_divided_by_zero() -> None:
    with pytest.raises(ValidationError, match="an entry of scale is 0"):
        Normalisation(mode="mean_std", offset=(0, 0), scale=(1, 0))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"template": "do it\n"}, "no {task}"),
        ({"template": "{task} {state}"}, "belong together"),
        ({"state_bins": 256}, "belong together"),
    ],
)
def test_a_template_holds_what_is_filled_in(fields: dict[str, Any], changes: dict[str, Any], complaint: str) -> None:
    fields["tokenizer"].update(changes)
    with pytest.raises(ValidationError, match=complaint):
        Manifest.model_validate(fields)


def test_a_state_in_the_text_is_no_tensor(toy_bundle: Callable[..., Bundle]) -> None:
    tensor = toy_bundle("tensor").manifest.encode_inputs()
    text = toy_bundle("text", state_in_text=True).manifest.encode_inputs()
    assert list(tensor) == ["images", "tokens", "token_mask", "state"]
    assert tensor["state"] == (1, 8)
    assert list(text) == ["images", "tokens", "token_mask"]
    assert tensor["images"] == text["images"] == (2, 3, 32, 32)


def test_graphs_need_not_have_fp32_but_something(fields: dict[str, Any]) -> None:
    fields["graphs"] = {"int8": fields["graphs"]["fp32"]}
    Manifest.model_validate(fields)
    fields["graphs"] = {}
    with pytest.raises(ValidationError, match="graphs"):
        Manifest.model_validate(fields)


def test_a_guided_graph_is_a_third_part_and_a_file_of_the_bundle(toy_bundle: Callable[..., Bundle]) -> None:
    plain, steering = (toy_bundle(name, guided=name == "steering").manifest for name in ("plain", "steering"))
    assert list(plain.graphs["fp32"].parts()) == ["encode", "denoise"]
    assert steering.graphs["fp32"].parts() == {
        "encode": "encode.onnx",
        "denoise": "denoise.onnx",
        "guided": "guided.onnx",
    }
    fields = steering.model_dump(mode="json")
    del fields["files"]["guided.onnx"]
    with pytest.raises(ValidationError, match=r"guided\.onnx is named but has no digest"):
        Manifest.model_validate(fields)
