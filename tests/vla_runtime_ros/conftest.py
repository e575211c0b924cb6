"""A DDS domain of its own for every test that needs one, nodes with other defaults, and nodes that really spin."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime_ros.lifecycle import ManagedNode

NodeT = TypeVar("NodeT", bound=ManagedNode)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """rclpy, started in a private domain that stays on this machine."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    rclpy.init(args=[], domain_id=random.randrange(1, 102))
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    yield
    rclpy.shutdown()


@pytest.fixture
def make(ros: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """``make(NodeType, name=value)``: a node whose parameters have those defaults, ended with the test."""
    nodes: list[ManagedNode] = []

    def node_of(node_type: type[NodeT], **given: Any) -> NodeT:
        names = {parameter.name for parameter in node_type.PARAMETERS}
        assert given.keys() <= names, given.keys() - names
        table = tuple(replace(p, default=given.get(p.name, p.default)) for p in node_type.PARAMETERS)
        monkeypatch.setattr(node_type, "PARAMETERS", table)
        node = node_type()
        nodes.append(node)
        return node

    yield node_of
    for node in nodes:
        node.close("test ends")
        node.destroy_node()


@pytest.fixture
def spin(ros: None) -> Iterator[Callable[[Node], None]]:
    """``spin(node)``: serve it in a thread, with the others."""
    executor = SingleThreadedExecutor()
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield executor.add_node
    ending.set()
    thread.join(10.0)
    executor.shutdown()


@pytest.fixture
def simulated() -> Iterator[tuple[str, SimulatedPiper]]:
    """A simulated arm on a virtual CAN bus of its own: the bus and the arm."""
    name = f"virtual:{random.randrange(1 << 32):08x}"
    bus = open_bus(name)
    arm = SimulatedPiper(bus, KinematicPlant([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03], 3.0))
    stop = threading.Event()
    thread = threading.Thread(target=arm.run, args=(stop,))
    thread.start()
    yield name, arm
    stop.set()
    thread.join()
    bus.shutdown()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """``eventually(condition)``: wait until it holds; that it never does is a failure."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.01)

    return wait
