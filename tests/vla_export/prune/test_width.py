"""The width stage: it removes what is known to have diverged, and reports what it did."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy_policy import FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import route
from tests.vla_export.models.tiny_families import relative_error, smolvla
from tests.vla_export.prune.toy_bases import moved, vlm_tensors, write_base
from vla_export.models.flow_model import FlowModel
from vla_export.prune.base_vlm import BaseVlm, open_base
from vla_export.prune.channels import channels
from vla_export.prune.divergence import divergence
from vla_export.prune.ranking import choose
from vla_export.prune.spec import DivergenceWidth
from vla_export.prune.structure import Structure, apply_structure
from vla_export.prune.surgery import remove_layers
from vla_export.prune.width import WidthReport, check_width, comparisons, prune_width
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput

LIGHT = DivergenceWidth("light", {}, absolute=False)
VLM = "model.language_model.layers"
TOWER = "model.vision_tower.vision_model.encoder.layers"


def planted(directory: Path, model: FlowModel, big: dict[str, list[slice]]) -> BaseVlm:
    """A base from which everything moved a little, and these rows (or columns, of what comes out) by their whole."""
    theirs = vlm_tensors(model, "pi0")
    base = moved(theirs, 0.01)
    for name, rows in big.items():
        for unit in rows:
            if name.endswith(("down_proj.weight", "fc2.weight")):
                base[name][:, unit] = -theirs[name][:, unit]
            else:
                base[name][unit] = -theirs[name][unit]
    return open_base(write_base(directory, base), "pi0")


def channel(n: int) -> slice:
    return slice(n, n + 1)


def head(n: int) -> slice:
    return slice(8 * n, 8 * n + 8)


PLANTED = {
    f"{VLM}.1.mlp.gate_proj.weight": [channel(3), channel(9)],
    f"{VLM}.1.mlp.up_proj.weight": [channel(4)],
    f"{VLM}.4.mlp.down_proj.weight": [channel(0), channel(31)],
    f"{VLM}.2.self_attn.q_proj.weight": [head(1)],
    f"{TOWER}.0.mlp.fc1.weight": [channel(2)],
    f"{TOWER}.0.mlp.fc2.weight": [channel(7)],
    f"{TOWER}.1.self_attn.q_proj.weight": [head(0)],
}


def pruned(
    base: BaseVlm, spec: DivergenceWidth, model: FlowModel | None = None, multiple: int = 1
) -> tuple[FlowModel, Structure, WidthReport]:
    model = toy_policy() if model is None else model
    return prune_width(model, spec, base, Structure.of(model), multiple=multiple)


def test_what_diverged_most_is_what_goes(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    ratios = {"language.mlp": 5 / 192, "language.heads": 1 / 12, "vision.mlp": 2 / 48, "vision.heads": 1 / 4}
    model, structure, report = pruned(base, DivergenceWidth(None, ratios, absolute=False))

    def gone(stack: str, layer: int, what: str, of: int) -> list[int]:
        kept = getattr(structure.stacks[stack][layer], what)
        return [] if kept is None else [n for n in range(of) if n not in kept]

    assert [gone("language", n, "channels", 32) for n in range(6)] == [[], [3, 4, 9], [], [], [0, 31], []]
    assert [gone("language", n, "heads", 2) for n in range(6)] == [[], [], [1], [], [], []]
    assert [gone("vision", n, "channels", 24) for n in range(2)] == [[2, 7], []]
    assert [gone("vision", n, "heads", 2) for n in range(2)] == [[], [0]]
    assert {width.module: width.units_after for width in report.modules} == {
        "language.mlp": (32, 29, 32, 32, 30, 32),
        "language.heads": (2, 2, 1, 2, 2, 2),
        "vision.mlp": (22, 24),
        "vision.heads": (2, 1),
    }
    for width in report.modules:
        assert width.threshold is not None
        assert width.threshold > 1.0  # what was not planted moved by a few hundredths
    for name, stack in model.stacks().items():
        before = toy_policy().stacks()[name]
        expected = {width.module: width.units_after for width in report.modules}
        mlp = expected.get(f"{name}.mlp", tuple(channels(layer.mlp) for layer in before))
        assert tuple(channels(layer.mlp) for layer in stack) == mlp
        assert tuple(layer.attention.heads for layer in stack) == expected.get(f"{name}.heads", (2,) * len(stack))


def test_the_other_end_of_the_ranking_is_what_did_not_move(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    scores = divergence(toy_policy(), base, "language.mlp", absolute=False).scores
    kept = choose(scores, 187 / 192, "lowest", 1).kept
    assert kept[1] == (3, 4, 9)
    assert kept[4] == (0, 31)


def test_the_report_says_what_it_did(tmp_path: Path) -> None:
    base = planted(tmp_path / "paligemma", toy_policy(), PLANTED)
    model, structure, report = pruned(base, LIGHT, multiple=8)
    assert (report.base, report.absolute, report.multiple) == ("paligemma", False, 8)
    assert [width.module for width in report.modules] == [
        "vision.mlp",
        "vision.heads",
        "language.mlp",
        "language.heads",
    ]
    for width in report.modules:
        removed = sum(width.units_before) - sum(width.units_after)
        assert 0 < removed <= width.ratio * sum(width.units_before) + 0.5
        assert width.direction == "highest"
        if width.module.endswith("mlp"):
            assert all(after % 8 == 0 for after in width.units_after)
    assert WidthReport.model_validate_json(report.model_dump_json()) == report
    again = toy_policy()
    apply_structure(again, structure, "the structure")
    assert {n: p.shape for n, p in again.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}


def test_a_structure_gives_the_same_policy_again(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    model, structure, _ = pruned(base, LIGHT)
    again = toy_policy()
    apply_structure(again, structure, "the structure")
    (sample,) = toy_samples(1)
    assert torch.equal(sample_actions(again, sample, FLOW_STEPS), sample_actions(model, sample, FLOW_STEPS))


def test_layers_that_are_gone_change_no_choice(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    model = toy_policy()
    removed = {"language": {0, 3}, "expert": {0, 3}}
    structure = Structure.of(model).without(removed)
    remove_layers(model, removed)
    spec = DivergenceWidth(None, {"language.mlp": 5 / 128}, absolute=False)
    _, left, report = prune_width(model, spec, base, structure, multiple=1)
    assert report.modules[0].units_after == (29, 32, 30, 32)
    assert [layer.layer for layer in left.stacks["language"]] == [1, 2, 4, 5]
    assert left.stacks["language"][0].channels == tuple(n for n in range(32) if n not in (3, 4, 9))


def test_exact_branches_stay_exact_and_are_named(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    model = toy_policy()
    paths = route(model, size=0.3, kinds=("language.layers.1.mlp.down_proj", "language.layers.2.attention.q_proj"))
    reference = copy.deepcopy(model)
    spec = DivergenceWidth(None, {"language.mlp": 5 / 192, "language.heads": 1 / 12}, absolute=False)
    _, _, report = pruned(base, spec, model)
    assert [width.without_branch for width in report.modules] == [(paths[0],), (paths[1],)]
    hide(reference)
    for sample in toy_samples(2, 7):
        found, expected = (sample_actions(policy, sample, FLOW_STEPS) for policy in (model, reference))
        assert relative_error(found, expected) < 1e-5


def hide(model: FlowModel) -> None:
    """Zero the planted units where they are read."""
    for path, gone in (
        ("language.layers.1.mlp.down_proj", [3, 4, 9]),
        ("language.layers.4.mlp.down_proj", [0, 31]),
        ("language.layers.2.attention.o_proj", list(range(8, 16))),
    ):

        def zero(_: object, args: tuple[Tensor], gone: list[int] = gone) -> tuple[Tensor]:
            return (args[0].index_fill(-1, torch.tensor(gone), 0.0),)

        model.get_submodule(path).register_forward_pre_hook(zero)


def test_progress_is_told_once_for_each_comparison(tmp_path: Path) -> None:
    model = smolvla()
    base = open_base(write_base(tmp_path, moved(vlm_tensors(model, "smolvla"), 0.1), "smolvlm"), "smolvla")
    calls: list[int] = []
    expected = comparisons(model, LIGHT, "smolvla")
    assert expected == 2 * 2 + 2 * 4
    _, _, report = prune_width(model, LIGHT, base, Structure.of(model), multiple=8, progress=lambda: calls.append(1))
    assert len(calls) == expected
    assert {width.basis for width in report.modules} == {"π0.5's; nothing is published for SmolVLA"}
    assert {layer.attention.kv_heads for layer in model.stacks()["language"]} == {2}


def test_default_widths_are_multiples_of_the_hardware_tile(tmp_path: Path) -> None:
    base = planted(tmp_path, toy_policy(), PLANTED)
    model = toy_policy()
    _, structure, report = prune_width(model, LIGHT, base, Structure.of(model))
    assert report.multiple == 64
    for width in report.modules:
        if width.module.endswith("mlp"):
            assert width.units_after == width.units_before  # a toy has no 64 channels to give
    assert all(layer.channels is None for layers in structure.stacks.values() for layer in layers)


def test_bad_input_touches_nothing(tmp_path: Path) -> None:
    model, frozen = toy_policy(), vlm_tensors(toy_policy(), "pi0")
    names = {f"{VLM}.0.mlp.up_proj.weight"}  # language channels alone were trained
    base = open_base(write_base(tmp_path, {n: -t if n in names else t for n, t in frozen.items()}), "pi0")
    before = {name: parameter.shape for name, parameter in model.named_parameters()}
    check_width(model, LIGHT, base, Structure.of(model))
    with pytest.raises(BadInput, match=r"vision\.mlp of the policy equals that of --base .*divergence:language\.mlp"):
        pruned(base, LIGHT, model)
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == before
    spec = DivergenceWidth(None, {"language.mlp": 0.2}, absolute=False)
    _, structure, _ = pruned(base, spec, model)
    with pytest.raises(BadInput, match=r"--prune divergence:language\.mlp=0\.2: language has lost channels or heads"):
        check_width(model, spec, base, structure)
