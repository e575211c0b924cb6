"""What an export measures on: the same tensors the robot would make, and every second one held out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vla_calibration.dataset import CalibrationSet, StateDimension, write
from vla_export.checkpoints.checkpoint import Interface
from vla_export.checkpoints.reading import read
from vla_export.observations import captured, synthetic
from vla_runtime.errors import BadInput
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.statistics import unnormalise

TASK = "pick up the red cube"


@pytest.fixture(scope="module")
def interface(reference_checkpoint: Path) -> Interface:
    return read(reference_checkpoint).interface


def recording(interface: Interface, count: int = 5, **changes: object) -> CalibrationSet:
    generator = np.random.default_rng(1)
    fields = {
        "images": {c.name: generator.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8) for c in interface.cameras},
        "state": generator.normal(size=(count, 7)).astype(np.float32),
        "stamps": np.arange(count, dtype=np.float64),
        "dimensions": tuple(StateDimension(name=d.name, unit=d.unit) for d in interface.state.dimensions),
        "task": TASK,
    }
    return CalibrationSet(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_captured_set_becomes_the_tensors_the_robot_would_make(interface: Interface, tmp_path: Path) -> None:
    found = recording(interface)
    write(found, tmp_path / "set")
    observations = captured(interface, tmp_path / "set")
    assert (len(observations.calibration), len(observations.held_out)) == (3, 2)
    assert not observations.synthetic
    for place, sample in zip((0, 2, 4, 1, 3), (*observations.calibration, *observations.held_out), strict=True):
        for n, camera in enumerate(interface.cameras):
            expected = letterbox(found.images[camera.name][place], camera.height, camera.width)
            np.testing.assert_array_equal(sample.observed["images"][n].numpy(), expected)
        state = unnormalise(sample.observed["state"].numpy(), interface.state)[0]
        np.testing.assert_allclose(state, found.state[place], atol=1e-5)
        assert sample.observed["tokens"].shape == sample.observed["token_mask"].shape == (1, interface.tokenizer.max_length)


def test_synthetic_observations_are_the_same_for_a_seed_and_stay_within_the_limits(interface: Interface) -> None:
    once, again, other = (synthetic(interface, count=6, seed=seed) for seed in (4, 4, 5))
    assert once.synthetic
    assert (len(once.calibration), len(once.held_out)) == (3, 3)
    for a, b, c in zip(once.held_out, again.held_out, other.held_out, strict=True):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("images", "tokens", "state", "noise"))
        assert not torch.equal(a.images, c.images)
        assert not torch.equal(a.noise, c.noise)
        state = unnormalise(a.state.numpy(), interface.state)[0]
        for value, dimension in zip(state, interface.state.dimensions, strict=True):
            assert dimension.lower is None or value >= dimension.lower - 1e-6
            assert dimension.upper is None or value <= dimension.upper + 1e-6


def test_a_set_that_does_not_fit_the_policy_is_refused(interface: Interface, tmp_path: Path) -> None:
    one_camera = interface.cameras[0].name
    degrees = tuple(StateDimension(name=d.name, unit="1") for d in interface.state.dimensions)
    cases = {
        "has no camera": recording(interface, images={one_camera: recording(interface).images[one_camera]}),
        "the policy's is joint1 \\[rad\\]": recording(interface, dimensions=degrees),
        "names no task": recording(interface, task=None),
        "at least 2 are needed": recording(interface, count=1),
    }
    for n, (message, found) in enumerate(cases.items()):
        write(found, tmp_path / str(n))
        with pytest.raises(BadInput, match=message):
            captured(interface, tmp_path / str(n))
