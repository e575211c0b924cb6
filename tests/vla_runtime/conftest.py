"""Fixtures of the robot side's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle.bundle import Bundle


@pytest.fixture
def toy_bundle(tmp_path: Path) -> Callable[..., Bundle]:
    """A factory of opened toy bundles; its arguments are those of `write_toy_bundle`."""

    def make(name: str = "toy", **options: Any) -> Bundle:
        return Bundle.open(write_toy_bundle(tmp_path / name, **options))

    return make
