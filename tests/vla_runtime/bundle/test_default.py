"""Which bundle is meant when none is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_runtime.bundle.default import default_bundle, remember
from vla_runtime.errors import BadInput


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("VLA_BUNDLE", raising=False)


def test_without_any_it_names_the_command_that_makes_one() -> None:
    with pytest.raises(BadInput, match="vla-export"):
        default_bundle()


def test_the_last_one_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    remember(tmp_path / "first")
    remember("second")
    assert default_bundle() == tmp_path / "second"


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("exported", "chosen"):
        (tmp_path / name).mkdir()
    remember(tmp_path / "exported")
    monkeypatch.setenv("VLA_BUNDLE", str(tmp_path / "chosen"))
    assert default_bundle() == tmp_path / "chosen"


def test_one_that_is_gone_is_an_error_not_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "exported").mkdir()
    remember(tmp_path / "exported")
    monkeypatch.setenv("VLA_BUNDLE", str(tmp_path / "gone"))
    with pytest.raises(BadInput, match="VLA_BUNDLE names .*gone"):
        default_bundle()
    monkeypatch.delenv("VLA_BUNDLE")
    (tmp_path / "exported").rmdir()
    with pytest.raises(BadInput, match="exported"):
        default_bundle()


def test_the_home_directory_is_the_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    remember(tmp_path)
    assert (tmp_path / ".local/state/vla_runtime/last_bundle").read_text() == f"{tmp_path}\n"
