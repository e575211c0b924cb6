"""Demonstrations: what a shard holds, that it can be made again, and that an interrupted command goes on."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from reference import demonstrations
from reference.demonstrations import HELD_OUT, demonstrate, write_demonstrations
from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.episode import TASKS, Episode
from vla_runtime.sim.perturbation import Perturbation
from vla_runtime.sim.scene import CUBES

SHAPES = {
    "images": ((2, 64, 64, 3), np.uint8),
    "state": ((7,), np.float32),
    "chunks": ((3, 16, 7), np.float32),
    "valid": ((3,), np.bool_),
    "beside": ((3, 16, 7), np.float32),
    "beside_valid": ((3,), np.bool_),
    "named": ((), np.int8),
    "goal": ((), np.int8),
    "cubes": ((3, 3), np.float32),
    "task": ((), np.int8),
    "episode": ((), np.int32),
    "step": ((), np.int16),
}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(demonstrations, "SHARD", 2)


@pytest.fixture(scope="module", params=TASKS)
def shard(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstrations, "SHARD", 2)
        directory = tmp_path_factory.mktemp(request.param)
        (path,) = write_demonstrations(directory, request.param, 2)
    return request.param, load_file(path)


def test_shapes_and_kinds(shard):
    _, tensors = shard
    assert set(tensors) == set(SHAPES)
    frames = len(tensors["step"])
    for name, (shape, kind) in SHAPES.items():
        assert tensors[name].shape == (frames, *shape)
        assert tensors[name].dtype == kind


def test_what_a_shard_says_of_its_episodes(shard):
    task, tensors = shard
    assert set(tensors["task"]) == {TASKS.index(task)}
    assert len(set(tensors["episode"])) == 2
    assert tensors["episode"].min() >= HELD_OUT
    for seed in set(tensors["episode"].tolist()):
        rows = tensors["episode"] == seed
        episode = Episode(task, seed, render=False)
        assert set(tensors["named"][rows]) == {CUBES.index(episode.colour)}
        assert set(tensors["goal"][rows]) == {-1 if episode.goal is None else CUBES.index(episode.goal)}
        assert tensors["step"][rows][0] == 0
        assert np.all(np.diff(tensors["step"][rows]) > 0)
        np.testing.assert_allclose(tensors["state"][rows][0], episode.state, atol=1e-6)
        positions = [episode.scene.cube_positions()[cube] for cube in CUBES]
        np.testing.assert_allclose(tensors["cubes"][rows][0], positions, atol=1e-6)


def test_labels_are_there_where_they_mean_something_and_within_the_limits(shard):
    task, tensors = shard
    rows = np.arange(len(tensors["named"]))
    assert tensors["valid"][rows, tensors["named"]].all()
    first = tensors["valid"][tensors["step"] == 0]
    assert np.all(first.sum(axis=1) == (2 if task == "place" else 3))
    assert np.all(tensors["chunks"][~tensors["valid"]] == 0)
    assert np.all(tensors["beside"][~tensors["beside_valid"]] == 0)
    assert tensors["beside_valid"].any() == (task == "place")
    for name in ("chunks", "beside"):
        labels = tensors[name][tensors["valid" if name == "chunks" else "beside_valid"]]
        assert np.all(labels >= PIPER_LIMITS.lower - 1e-6)
        assert np.all(labels <= PIPER_LIMITS.upper + 1e-6)


def test_the_demonstrated_chunk_leads_on_from_the_state(shard):
    _, tensors = shard
    first = tensors["chunks"][np.arange(len(tensors["named"])), tensors["named"], 0]
    assert np.abs(first - tensors["state"])[:, :6].max() < 0.2  # one control period and the motors' lag


def test_the_same_bytes_again(tmp_path):
    (first,) = write_demonstrations(tmp_path / "first", "reach", 2)
    (second,) = write_demonstrations(tmp_path / "second", "reach", 2)
    (other,) = write_demonstrations(tmp_path / "other", "reach", 2, seed=1)
    assert first.read_bytes() == second.read_bytes()
    assert set(load_file(first)["episode"]).isdisjoint(load_file(other)["episode"])


def test_from_another_place_of_the_side_camera_the_same_is_demonstrated(tmp_path):
    (usual,) = write_demonstrations(tmp_path, "reach", 1)
    (elsewhere,) = write_demonstrations(tmp_path, "reach", 1, perturbation=Perturbation(side_camera=0.5))
    assert {usual.name, elsewhere.name} == {"reach-00000.safetensors", "reach-camera-0.5-00000.safetensors"}
    seen, other = load_file(usual), load_file(elsewhere)
    assert (seen["images"][:, 0] != other["images"][:, 0]).any(axis=(1, 2, 3)).all()
    for name in SHAPES.keys() - {"images"}:
        np.testing.assert_array_equal(seen[name], other[name])


def test_a_perturbation_that_the_shards_do_not_name_is_refused(tmp_path):
    with pytest.raises(BadInput, match="side camera"):
        write_demonstrations(tmp_path / "out", "reach", 1, perturbation=Perturbation(light=0.5))
    assert not (tmp_path / "out").exists()


def test_an_interrupted_command_goes_on_where_it_stopped(tmp_path, monkeypatch):
    demonstrated = []

    def interrupted(episode, seed, perturbation):
        demonstrated.append(seed)
        if len(demonstrated) == 4:
            raise KeyboardInterrupt
        return demonstrate(episode, seed, perturbation)

    with monkeypatch.context() as patch:
        patch.setattr(demonstrations, "demonstrate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_demonstrations(tmp_path, "reach", 4)
    (kept,) = tmp_path.iterdir()  # nothing half-written
    before = kept.stat().st_mtime_ns
    shards = write_demonstrations(tmp_path, "reach", 4)
    assert [path.name for path in shards] == ["reach-00000.safetensors", "reach-00001.safetensors"]
    assert sorted(tmp_path.iterdir()) == shards
    assert kept.stat().st_mtime_ns == before
    whole = write_demonstrations(tmp_path / "whole", "reach", 4)
    assert [path.read_bytes() for path in shards] == [path.read_bytes() for path in whole]


def test_only_what_succeeded_is_kept(tmp_path, monkeypatch):
    seeds = []

    def failing_first(episode, seed, perturbation):
        frames = demonstrate(episode, seed, perturbation)
        seeds.append(seed)
        if len(seeds) == 1:
            episode.succeeded_at = None
        return frames

    monkeypatch.setattr(demonstrations, "demonstrate", failing_first)
    (path,) = write_demonstrations(tmp_path, "reach", 2)
    assert sorted(set(load_file(path)["episode"].tolist())) == seeds[1:]
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("juggle", 2), "'juggle' is unknown: choose from reach, lift, place"),
        (("reach", 0), "--count 0"),
    ],
)
def test_what_cannot_be_demonstrated_is_refused(tmp_path, arguments, message):
    with pytest.raises(BadInput, match=message):
        write_demonstrations(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_two_processes_write_what_one_writes(tmp_path, monkeypatch):
    monkeypatch.undo()  # a new process has shards of their full size
    (shard,) = write_demonstrations(tmp_path, "reach", 1, workers=2)
    monkeypatch.setattr(demonstrations, "SHARD", 1)
    (start,) = write_demonstrations(tmp_path / "start", "reach", 1)
    whole, first = load_file(shard), load_file(start)
    for name, values in first.items():
        np.testing.assert_array_equal(whole[name][: len(values)], values)


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "reference.demonstrations", str(tmp_path / "out"), "--count", "1"]
    bad = subprocess.run([*command, "--task", "juggle"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: task 'juggle' is unknown")
