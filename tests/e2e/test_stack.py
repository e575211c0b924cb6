"""The stack when something does not work: the reason is said, and nothing keeps running."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.toy_bundle import write_toy_bundle
from vla_evaluation.stack import Stack
from vla_runtime.errors import WorkFailed

pytestmark = pytest.mark.e2e


def test_a_camera_the_policy_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    parameters = {
        "policy_node": {"camera_topics": '["front=/front/image_raw/compressed"]', "engine": "onnxruntime"},
        "sim_node": {"image_height": 32, "image_width": 32},
    }
    stack = Stack(write_toy_bundle(tmp_path / "bundle"), tmp_path / "logs", parameters=parameters)
    with pytest.raises(WorkFailed, match="policy_node refused"), stack:
        pytest.fail("it must not come up")
    assert "camera_topics names camera 'front'; this policy knows side, wrist" in capsys.readouterr().err
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)
