"""A DDS domain of its own for every test that needs one."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
import rclpy


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """rclpy, started in a private domain that stays on this machine."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=[], domain_id=random.randrange(1, 102))
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    yield
    rclpy.shutdown()
