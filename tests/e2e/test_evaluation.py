"""One policy, one seed, three ways to the scene: the verdict does not depend on what lies between.

The policy asks for the posture over the named cube, whatever it sees: a leap that only the safety layer makes a motion.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toy_bundle import write_toy_bundle
from tests.vla_evaluation.rehearsal import rehearse
from vla_evaluation.cli import main
from vla_evaluation.outcome import Outcome

pytestmark = pytest.mark.e2e

SEED = 2


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    targets, _ = rehearse("reach", SEED)
    return write_toy_bundle(tmp_path_factory.mktemp("way") / "bundle", goal=targets[-1].tolist())


def evaluate(bundle: Path, out: Path, *more: str) -> Outcome:
    arguments = ("--task", "reach", "--episodes", "1", "--seed", str(SEED), "-o", str(out), "--json")
    assert main([str(bundle), *arguments, *more]) == 0
    return Outcome.model_validate_json((out / "results.jsonl").read_text())


def test_success_is_the_same_through_the_runtime_through_can_and_through_ros(tmp_path: Path, bundle: Path) -> None:
    found = {way: evaluate(bundle, tmp_path / way, "--through", way) for way in ("runtime", "can", "ros")}
    for way, outcome in found.items():
        assert outcome.success, way
        assert outcome.holding, way
        assert outcome.ended_because is None, way
        assert outcome.instruction == found["runtime"].instruction
    # Without limits the joints arrive together, with them each when it can: another way, and the same one twice.
    assert found["ros"].path_length == pytest.approx(found["can"].path_length, abs=0.03)  # [m]
    assert found["can"].path_length == pytest.approx(found["runtime"].path_length, abs=0.1)
    assert found["runtime"].interventions is None
    for way in ("can", "ros"):
        interventions = found[way].interventions
        assert interventions is not None
        assert sum(interventions[f"{what}_limit"] for what in ("velocity", "acceleration", "jerk")) > 10


def test_the_wrong_cube_is_a_failure_with_its_film_through_ros_too(tmp_path: Path, bundle: Path) -> None:
    outcome = evaluate(bundle, tmp_path, "--through", "ros", "--swap")
    assert not outcome.success
    assert (tmp_path / "report" / "pictures" / f"{outcome.key}.png").is_file()
    assert json.loads((tmp_path / "summary.json").read_text())["request"]["swap"] is True
