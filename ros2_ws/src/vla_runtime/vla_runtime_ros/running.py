"""One node, one process: spinning, signals, and an end that is always the same."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vla_runtime import command
from vla_runtime_ros.lifecycle import ManagedNode

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(node_type: Callable[[], ManagedNode]) -> int:
    """Run one node until SIGINT or SIGTERM; the exit code is that of every command of the project.

    Whoever started it is gone: that is a SIGTERM too. So nothing goes on moving that nobody can end any more.
    """
    return command.run(lambda: _run(node_type))


def _run(node_type: Callable[[], ManagedNode]) -> int:
    # What counts as the parent is the thread that started this process: it must live as long as the node shall.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # rclpy's own handlers end DDS first; a node must be able to publish why it stops, so the signals are handled here.
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = node_type()
        try:
            _spin(node)
        finally:
            node.destroy_node()
    finally:
        rclpy.shutdown()
    return command.DONE


def _spin(node: ManagedNode) -> None:
    ending = threading.Event()
    received: list[str] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            node.hurry.set()
        received.append(signal.Signals(number).name)
        ending.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        while not ending.is_set():
            executor.spin_once()

    with ThreadPoolExecutor(1, thread_name_prefix="executor") as pool:
        spinning = pool.submit(spin)
        spinning.add_done_callback(lambda _: ending.set())
        ending.wait()
        executor.wake()
        defect = spinning.exception()
    if defect is not None:
        node.hurry.set()  # whatever is wrong, a graceful end is no time to find out
    node.close(received[0] if received else f"a defect: {defect!r}")
    executor.shutdown()
    if defect is not None:
        raise defect
