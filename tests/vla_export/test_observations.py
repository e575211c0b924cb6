"""What an export measures on: the same tensors the robot would make, and a third of them held out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from vla_calibration.dataset import CalibrationSet, StateDimension, write
from vla_export.checkpoints.checkpoint import Interface
from vla_export.checkpoints.reading import read
from vla_export.observations import RECORDED, Observations, recorded, synthetic
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Dimension, Normalisation, Unit
from vla_runtime.errors import BadInput
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.statistics import unnormalise
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.policy.units import from_si, si_unit

TASK = "pick up the red cube"
PARTS = ("offset", "scale")


@pytest.fixture(scope="module")
def interface(reference_checkpoint: Path) -> Interface:
    return read(reference_checkpoint).interface


def recording(interface: Interface, count: int = 5, **changes: object) -> CalibrationSet:
    generator = np.random.default_rng(1)
    fields = {
        "images": {c.name: generator.integers(0, 256, (count, 48, 64, 3), dtype=np.uint8) for c in interface.cameras},
        "state": generator.normal(size=(count, 7)).astype(np.float32),
        "stamps": np.arange(count, dtype=np.float64),
        "dimensions": tuple(StateDimension(name=d.name, unit=si_unit(d.unit)) for d in interface.state.dimensions),
        "task": TASK,
    }
    return CalibrationSet(**{**fields, **changes})  # type: ignore[arg-type]


def parts(observations: Observations) -> tuple[tuple[Sample, ...], ...]:
    return tuple(observations.calibration), tuple(observations.choosing), tuple(observations.held_out)


def test_a_captured_set_becomes_the_tensors_the_robot_would_make(interface: Interface, tmp_path: Path) -> None:
    found = recording(interface)
    write(found, tmp_path / "set")
    observations = recorded(interface, tmp_path / "set")
    assert observations.source == "5 observations of the capture set"
    assert [len(part) for part in parts(observations)] == [2, 2, 1]
    assert not observations.synthetic
    for place, sample in zip((0, 3, 1, 4, 2), sum(parts(observations), ()), strict=True):
        for n, camera in enumerate(interface.cameras):
            expected = letterbox(found.images[camera.name][place], camera.height, camera.width)
            np.testing.assert_array_equal(sample.observed["images"][n].numpy(), expected)
        state = unnormalise(sample.observed["state"].numpy(), interface.state)[0]
        np.testing.assert_allclose(state, found.state[place], atol=1e-5)
        assert (
            sample.observed["tokens"].shape
            == sample.observed["token_mask"].shape
            == (1, interface.tokenizer.max_length)
        )


def in_degrees(interface: Interface) -> Interface:
    """The same policy, had it been trained on degrees and millimetres."""
    units: dict[str, Unit] = {"rad": "deg", "m": "mm"}
    space = interface.state.model_copy(
        update={"dimensions": tuple(Dimension(name=d.name, unit=units[d.unit]) for d in interface.state.dimensions)}
    )
    statistics = {what: from_si(np.array(getattr(interface.state.normalisation, what)), space) for what in PARTS}
    normalisation = Normalisation(mode="mean_std", **{what: tuple(v.tolist()) for what, v in statistics.items()})
    return dataclasses.replace(interface, state=space.model_copy(update={"normalisation": normalisation}))


def test_a_captured_set_serves_a_policy_that_speaks_degrees(interface: Interface, tmp_path: Path) -> None:
    write(recording(interface), tmp_path / "set")
    expected, found = (recorded(one, tmp_path / "set") for one in (interface, in_degrees(interface)))
    for a, b in zip(expected.held_out, found.held_out, strict=True):
        torch.testing.assert_close(a.observed["state"], b.observed["state"], rtol=1e-5, atol=1e-5)
    drawn, drawn_in_degrees = (synthetic(one, count=4) for one in (interface, in_degrees(interface)))
    for a, b in zip(drawn.held_out, drawn_in_degrees.held_out, strict=True):
        assert b.observed["state"].abs().max() < 5
        assert torch.equal(a.observed["images"], b.observed["images"])


def test_a_captured_set_of_joints_is_not_an_end_pose(interface: Interface, tmp_path: Path) -> None:
    write(recording(interface), tmp_path / "set")
    pose = dataclasses.replace(interface, state=interface.state.model_copy(update={"quantity": "end_pose"}))
    with pytest.raises(BadInput, match="holds joint positions; the policy's state is the pose of the end effector"):
        recorded(pose, tmp_path / "set")


def test_synthetic_observations_are_the_same_for_a_seed_and_stay_within_the_limits(interface: Interface) -> None:
    once, again, other = (synthetic(interface, count=6, seed=seed) for seed in (4, 4, 5))
    assert once.synthetic
    assert [len(part) for part in parts(once)] == [2, 2, 2]
    for a, b, c in zip(once.held_out, again.held_out, other.held_out, strict=True):
        assert all(torch.equal(tensor, b.observed[name]) for name, tensor in a.observed.items())
        assert torch.equal(a.noise, b.noise)
        assert not torch.equal(a.observed["images"], c.observed["images"])
        assert not torch.equal(a.noise, c.noise)
        state = unnormalise(a.observed["state"].numpy(), interface.state)[0]
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
        "holds 2 observations: at least 3 are needed": recording(interface, count=2),
    }
    for n, (message, found) in enumerate(cases.items()):
        write(found, tmp_path / str(n))
        with pytest.raises(BadInput, match=message):
            recorded(interface, tmp_path / str(n))


GOLDENS = Path(__file__).parents[1] / "oracles" / "goldens"
RED, BLUE = "pick up the red cube", "push the blue cube"


@pytest.fixture(params=["v2.1", "v3.0"])
def dataset(request: pytest.FixtureRequest) -> tuple[Path, dict[str, np.ndarray]]:
    """Three episodes, of 3, 2 and 4 frames, the second of another task; and what LeRobot reads of them."""
    root = GOLDENS / f"lerobot_dataset_{request.param}"
    return root, load_file(GOLDENS / f"{root.name}.safetensors")


def episodes_in(samples: tuple[Sample, ...], interface: Interface, oracle: dict[str, np.ndarray]) -> list[int]:
    """Which episode each sample is of, by its state, which no two frames share."""
    states = [unnormalise(sample.observed["state"].numpy(), interface.state)[0] for sample in samples]
    return [int(oracle["episode"][np.abs(oracle["state"] - state).max(axis=1).argmin()]) for state in states]


def episodes_by_part(
    observations: Observations, interface: Interface, oracle: dict[str, np.ndarray]
) -> list[list[int]]:
    return [episodes_in(part, interface, oracle) for part in parts(observations)]


def test_a_dataset_becomes_the_tensors_of_its_frames_and_no_episode_is_in_two_parts(
    interface: Interface, dataset: tuple[Path, dict[str, np.ndarray]]
) -> None:
    root, oracle = dataset
    observations = recorded(interface, root)
    assert observations.source == f"9 observations of 3 episodes of the LeRobot dataset {root.name} ({root.name[-4:]})"
    assert not observations.synthetic
    seen = episodes_by_part(observations, interface, oracle)
    order = [episode for part in seen for episode in dict.fromkeys(part)]
    assert sorted(order) == [0, 1, 2]
    assert all(seen)
    place = [c.name for c in interface.cameras].index("wrist")
    camera = interface.cameras[place]
    expected = np.stack([letterbox(image, camera.height, camera.width) for image in oracle["wrist"]])
    found = np.stack([s.observed["images"][place].numpy() for s in sum(parts(observations), ())])
    frames = [n for episode in order for n in np.flatnonzero(oracle["episode"] == episode)]
    assert len(frames) == 9
    np.testing.assert_array_equal(found, expected[frames])
    again = recorded(interface, root)
    for a, b in zip(observations.held_out, again.held_out, strict=True):
        assert torch.equal(a.noise, b.noise)


def test_a_task_that_a_dataset_has_and_one_that_it_has_not(
    interface: Interface, dataset: tuple[Path, dict[str, np.ndarray]]
) -> None:
    root, oracle = dataset
    own, red = recorded(interface, root), recorded(interface, root, RED)
    assert {episode for part in episodes_by_part(red, interface, oracle) for episode in part} == {0, 2}
    assert red.source == f"7 observations of 2 episodes of the {own.source.split(' the ')[1]}, of the task '{RED}'"
    with pytest.raises(BadInput, match=f"2 observations, of the task '{BLUE}': at least 3 are needed"):
        recorded(interface, root, BLUE)
    other = recorded(interface, root, "hold still")
    assert episodes_by_part(other, interface, oracle) == episodes_by_part(own, interface, oracle)
    assert other.source == f"{own.source}, taken under the task 'hold still', which it has not"
    tokens = TaskTokenizer(interface.tokenizer_definition, interface.tokenizer)
    for observations, task in ((red, RED), (other, "hold still")):
        for sample in sum(parts(observations), ()):
            np.testing.assert_array_equal(sample.observed["tokens"].numpy(), tokens(task)[0])
    texts = {tuple(sample.observed["tokens"][0].tolist()) for sample in sum(parts(own), ())}
    assert len(texts) == 2


def test_a_capture_without_a_task_takes_the_one_that_is_given(interface: Interface, tmp_path: Path) -> None:
    write(recording(interface, task=None), tmp_path / "set")
    observations = recorded(interface, tmp_path / "set", "hold still")
    assert observations.source.startswith("5 observations of the capture set, taken under the task 'hold still'")


def test_a_long_recording_is_thinned(interface: Interface, tmp_path: Path) -> None:
    write(recording(interface, count=150), tmp_path / "set")
    observations = recorded(interface, tmp_path / "set")
    assert [len(part) for part in parts(observations)] == [RECORDED // 3] * 3


def test_a_camera_that_has_another_name_on_the_robot(
    interface: Interface, dataset: tuple[Path, dict[str, np.ndarray]]
) -> None:
    root, _ = dataset
    names = {c.name: f"robot_{c.name}" for c in interface.cameras}
    renamed = dataclasses.replace(
        interface,
        cameras=tuple(c.model_copy(update={"name": names[c.name]}) for c in interface.cameras),
        trained_cameras={names[c.name]: c.name for c in interface.cameras},
    )
    for a, b in zip(recorded(interface, root).held_out, recorded(renamed, root).held_out, strict=True):
        assert torch.equal(a.observed["images"], b.observed["images"])


def test_synthetic_observations_of_one_task(interface: Interface) -> None:
    observations = synthetic(interface, count=4, task="hold still")
    tokens = TaskTokenizer(interface.tokenizer_definition, interface.tokenizer)("hold still")[0]
    for sample in (*observations.calibration, *observations.held_out):
        np.testing.assert_array_equal(sample.observed["tokens"].numpy(), tokens)
    assert observations.source == "4 synthetic observations (seed 0) of the task 'hold still'"
