"""One reference checkpoint with its adapter for all tests that only read it."""

from pathlib import Path

import pytest

from reference.write_checkpoint import write_reference_checkpoint


@pytest.fixture(scope="session")
def reference_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reference") / "checkpoint"
    write_reference_checkpoint(directory)
    return directory


@pytest.fixture
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Engine cache and last bundle in a place of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path
