"""Datasets of LeRobot's own making, read as LeRobot reads them: see tests/oracles/dataset_lerobot.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from vla_calibration.lerobot_dataset import LeRobotRecording
from vla_calibration.recording import Moment, PolicyInputs
from vla_runtime.bundle.manifest import Dimension
from vla_runtime.errors import BadInput

VERSIONS = ("v2.1", "v3.0")
RED, BLUE = "pick up the red cube", "push the blue cube"
EPISODES = [(0, RED, 3), (1, BLUE, 2), (2, RED, 4)]


@pytest.fixture(params=VERSIONS)
def root(request: pytest.FixtureRequest, goldens: Path, tmp_path: Path) -> Path:
    """A copy of a dataset, to be damaged at will."""
    return Path(shutil.copytree(goldens / f"lerobot_dataset_{request.param}", tmp_path / "cubes"))


@pytest.fixture
def oracle(root: Path, goldens: Path) -> dict[str, NDArray[Any]]:
    version = json.loads((root / "meta/info.json").read_text())["codebase_version"]
    with safe_open(goldens / f"lerobot_dataset_{version}.safetensors", "numpy") as file:
        return {key: file.get_tensor(key) for key in ("episode", "frame", "state", "side", "wrist")}


def moments(recording: LeRobotRecording) -> list[Moment]:
    return [Moment(episode.number, frame) for episode in recording.episodes for frame in episode.frames]


def table_of(root: Path, episode: int) -> Path:
    """Where the frames of an episode are, in either format."""
    single = root / f"data/chunk-000/episode_{episode:06d}.parquet"
    return single if single.exists() else root / "data/chunk-000/file-000.parquet"


def edit_info(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(json.dumps(info))


def edit_rows(path: Path, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(edit(table.to_pylist()), schema=table.schema), path)


def test_every_item_is_the_one_that_lerobot_reads(
    root: Path, inputs: PolicyInputs, oracle: dict[str, NDArray[Any]]
) -> None:
    recording = LeRobotRecording(root, inputs)
    assert recording.name.startswith("LeRobot dataset cubes (v")
    assert [(e.number, e.task, len(e.frames)) for e in recording.episodes] == EPISODES
    found = list(recording.read(moments(recording)))
    assert [tuple(moment) for moment, _ in found] == list(zip(oracle["episode"], oracle["frame"], strict=True))
    for n, (_, observation) in enumerate(found):
        np.testing.assert_array_equal(observation.images["wrist"], oracle["wrist"][n])
        # Decoders may round the conversion from YUV differently, never by more than this.
        assert np.abs(observation.images["side"].astype(int) - oracle["side"][n]).max() <= 2
        np.testing.assert_array_equal(observation.state, oracle["state"][n])


def test_frames_differ_so_that_a_wrong_one_would_be_noticed(oracle: dict[str, NDArray[Any]]) -> None:
    for camera in ("side", "wrist"):
        images = oracle[camera].astype(int)
        for n in range(len(images)):
            for other in range(n):
                assert np.abs(images[n] - images[other]).max() > 40


def test_some_moments_of_some_cameras_under_the_robots_names(
    root: Path, inputs: PolicyInputs, oracle: dict[str, NDArray[Any]]
) -> None:
    renamed = replace(inputs, cameras={"table": "side"})
    chosen = [Moment(2, 3), Moment(0, 1)]
    found = dict(LeRobotRecording(root, renamed).read(chosen))
    assert found.keys() == set(chosen)
    for moment, observation in found.items():
        n = moments(LeRobotRecording(root, renamed)).index(moment)
        assert set(observation.images) == {"table"}
        assert np.abs(observation.images["table"].astype(int) - oracle["side"][n]).max() <= 2


def test_states_are_in_the_policys_units(root: Path, inputs: PolicyInputs, oracle: dict[str, NDArray[Any]]) -> None:
    units = ["mm" if d.name == "gripper" else "deg" for d in inputs.state.dimensions]
    dimensions = tuple(Dimension(name=d.name, unit=u) for d, u in zip(inputs.state.dimensions, units, strict=True))
    in_degrees = replace(inputs, state=inputs.state.model_copy(update={"dimensions": dimensions}))
    [(_, observation)] = LeRobotRecording(root, in_degrees).read([Moment(0, 0)])
    recorded = oracle["state"][0].astype(np.float64)
    expected = np.array([*np.radians(recorded[:6]), recorded[6] / 1000])
    np.testing.assert_allclose(observation.state, expected, rtol=1e-12)


def test_version_2_0_is_read_like_2_1(goldens: Path, tmp_path: Path, inputs: PolicyInputs) -> None:
    root = Path(shutil.copytree(goldens / "lerobot_dataset_v2.1", tmp_path / "cubes"))
    (root / "meta/episodes_stats.jsonl").rename(root / "meta/stats.json")
    edit_info(root, lambda info: info.update(codebase_version="v2.0"))
    recording = LeRobotRecording(root, inputs)
    assert len(list(recording.read(moments(recording)))) == 9


def test_version_2_keeps_so_many_episodes_in_a_directory(goldens: Path, tmp_path: Path, inputs: PolicyInputs) -> None:
    root = Path(shutil.copytree(goldens / "lerobot_dataset_v2.1", tmp_path / "cubes"))
    edit_info(root, lambda info: info.update(chunks_size=2))
    for path in (*root.glob("data/*/episode_000002.*"), *root.glob("videos/*/*/episode_000002.*")):
        moved = Path(str(path).replace("chunk-000", "chunk-001"))
        moved.parent.mkdir(parents=True)
        path.rename(moved)
    recording = LeRobotRecording(root, inputs)
    assert len(list(recording.read(moments(recording)))) == 9


def test_an_episode_in_which_the_task_changes_is_split(root: Path, inputs: PolicyInputs) -> None:
    edit_rows(
        table_of(root, 2),
        lambda rows: [
            row | {"task_index": int(row["episode_index"] == 1 or row["frame_index"] in (1, 3))} for row in rows
        ],
    )
    if (root / "meta/episodes.jsonl").exists():
        path = root / "meta/episodes.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[2]["tasks"] = [BLUE, RED]
        path.write_text("\n".join(map(json.dumps, lines)))
    else:
        path = root / "meta/episodes/chunk-000/file-000.parquet"
        edit_rows(path, lambda rows: [*rows[:2], rows[2] | {"tasks": [BLUE, RED]}])
    episodes = [(e.number, e.task, list(e.frames)) for e in LeRobotRecording(root, inputs).episodes]
    assert episodes[2:] == [(2, RED, [0, 2]), (2, BLUE, [1, 3])]


def test_a_camera_the_dataset_lacks(root: Path, inputs: PolicyInputs) -> None:
    with pytest.raises(
        BadInput, match=r"no camera top: the policy was trained on side, top, the dataset holds side, wrist"
    ):
        LeRobotRecording(root, replace(inputs, cameras={"side": "side", "wrist": "top"}))


def test_a_state_of_another_robot(root: Path, inputs: PolicyInputs) -> None:
    state = inputs.state.model_copy(update={"dimensions": inputs.state.dimensions[:6]})
    with pytest.raises(BadInput, match=r"observation.state has the shape \[7\]; the policy's state has 6 numbers"):
        LeRobotRecording(root, replace(inputs, state=state))
    turned = inputs.state.model_copy(update={"dimensions": inputs.state.dimensions[::-1]})
    with pytest.raises(BadInput, match=r"has the order joint1, .*; the policy's is gripper, joint6"):
        LeRobotRecording(root, replace(inputs, state=turned))
    edit_info(root, lambda info: info["features"].pop("observation.state"))
    with pytest.raises(BadInput, match=r"no feature observation.state"):
        LeRobotRecording(root, inputs)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda info: info.update(codebase_version="v1.6"), r"codebase_version is 'v1.6'; known are v2.0, v2.1, v3.0"),
        (lambda info: info.pop("codebase_version"), r"codebase_version is None"),
        (lambda info: info.update(fps=0), r"info.json: fps: .*greater than 0"),
        (lambda info: info.pop("features"), r"info.json: features: Field required"),
        (lambda info: info.update(video_path=None), r"video_path is missing, but observation.images.side are videos"),
        (lambda info: info.update(data_path="data/{nothing}"), r"the path 'data/\{nothing\}' cannot be filled"),
    ],
)
def test_an_info_that_does_not_tell(
    root: Path, inputs: PolicyInputs, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_info(root, edit)
    with pytest.raises(BadInput, match=message):
        LeRobotRecording(root, inputs)


def test_what_is_not_json(root: Path, inputs: PolicyInputs) -> None:
    (root / "meta/info.json").write_text('{"codebase_version": ')
    with pytest.raises(BadInput, match=r"info.json cannot be read as JSON"):
        LeRobotRecording(root, inputs)


def test_truncated_metadata(root: Path, inputs: PolicyInputs) -> None:
    for path in sorted((root / "meta").rglob("*")):
        if path.suffix in (".parquet", ".jsonl") and "stats" not in path.name:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) - 10])
            with pytest.raises(BadInput, match=rf"{path.name} cannot be read"):
                LeRobotRecording(root, inputs)
            path.unlink()
            with pytest.raises(BadInput, match=r"cannot be read|holds no Parquet file"):
                LeRobotRecording(root, inputs)
            path.write_bytes(content)
    LeRobotRecording(root, inputs)


def test_metadata_of_the_wrong_kind(goldens: Path, tmp_path: Path, inputs: PolicyInputs) -> None:
    root = Path(shutil.copytree(goldens / "lerobot_dataset_v2.1", tmp_path / "cubes"))
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": "long", "tasks": []}\n')
    with pytest.raises(BadInput, match=r"episodes.jsonl: 'long': Input should be a valid integer"):
        LeRobotRecording(root, inputs)


def test_no_frames(goldens: Path, tmp_path: Path, inputs: PolicyInputs) -> None:
    root = Path(shutil.copytree(goldens / "lerobot_dataset_v2.1", tmp_path / "cubes"))
    (root / "meta/episodes.jsonl").write_text("")
    with pytest.raises(BadInput, match=r"cubes holds no frames"):
        LeRobotRecording(root, inputs)


def test_a_table_with_fewer_frames_than_promised(root: Path, inputs: PolicyInputs) -> None:
    edit_rows(table_of(root, 2), lambda rows: [r for r in rows if (r["episode_index"], r["frame_index"]) != (2, 1)])
    recording = LeRobotRecording(root, inputs)
    with pytest.raises(BadInput, match=r"lacks frame 1 of episode 2, of 4: the dataset is incomplete"):
        list(recording.read(moments(recording)))


@pytest.mark.parametrize("kind", ["parquet", "mp4"])
def test_truncated_data(root: Path, inputs: PolicyInputs, kind: str) -> None:
    folder = root / ("data" if kind == "parquet" else "videos")
    for path in folder.rglob(f"*.{kind}"):
        path.write_bytes(path.read_bytes()[:500])
    recording = LeRobotRecording(root, inputs)
    with pytest.raises(
        BadInput, match=rf"\.{kind} (cannot be read|cannot be decoded|holds no video).*: copy the dataset again"
    ):
        list(recording.read(moments(recording)))


def test_an_image_that_is_none(root: Path, inputs: PolicyInputs) -> None:
    path = table_of(root, 0)
    png = cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
    for content in (None, png[:20]):
        cell = {"observation.images.wrist": {"bytes": content, "path": "frame-000000.png"}}
        edit_rows(path, lambda rows, cell=cell: [row | cell for row in rows])  # type: ignore[misc]
        with pytest.raises(BadInput, match=r"\.parquet holds an image that cannot be decoded"):
            list(LeRobotRecording(root, inputs).read([Moment(0, 0)]))
