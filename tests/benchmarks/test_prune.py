"""What is measured is what was published: sizes of the full policies, without one of them in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.prune import FULL, MODERATE, QUICK, SAMPLES, FamilyName, in_process, prune_once, random_base
from vla_export.models.flow_model import FlowModel
from vla_export.prune.published import published_layers
from vla_export.prune.structure import Structure
from vla_export.prune.surgery import remove_layers
from vla_export.prune.width import prune_width


def millions(model: FlowModel) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


@pytest.mark.parametrize(("family", "removed", "rounding"), [("smolvla", 450 - 354, 1), ("pi0", 3500 - 2700, 100)])
def test_the_published_lists_remove_as_many_parameters_as_published(
    family: FamilyName, removed: float, rounding: float
) -> None:
    with torch.device("meta"):
        model = FULL[family].kind(FULL[family].config)
    before = millions(model)
    layers = published_layers(family, FULL[family].config.language.depth)
    remove_layers(model, {"language": layers, "expert": layers})
    assert before - millions(model) == pytest.approx(removed, abs=rounding)


@pytest.mark.parametrize("multiple", [1, 64])
def test_from_the_random_base_all_layers_diverge_alike(multiple: int, tmp_path: Path) -> None:
    subject = QUICK["smolvla"]
    model = subject.policy()
    base = random_base(model, "smolvla", tmp_path / "base")
    _, _, report = prune_width(model, MODERATE, base, Structure.of(model), multiple=multiple)
    language = next(module for module in report.modules if module.module == "language.mlp")
    assert len(language.units_after) == subject.config.language.depth
    for before, after in zip(language.units_before, language.units_after, strict=True):
        assert after % multiple == 0
        assert 0.7 * before - 16 <= after < 0.7 * before + 16 + multiple


def test_pruning_is_measured_in_a_process_of_its_own() -> None:
    pruning, peak = in_process(prune_once, "smolvla", True, True)
    assert (pruning.family, pruning.samples) == ("smolvla", SAMPLES)
    assert 1e8 < peak.anonymous < 2e9
