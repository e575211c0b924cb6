"""The three nodes as three processes, for machines without `ros2 launch`: started, taken to active, watched, ended."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_evaluation.recording import Recording
from vla_runtime.errors import WorkFailed

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros2_ws" / "src" / "vla_runtime"
CONFIG = PACKAGE / "config" / "piper_policy.yaml"
NODES = ("sim_node", "arm_node", "policy_node")
_END_ORDER = ("policy_node", "arm_node", "sim_node")
"""Whoever is listened to ends last, so that nobody's last words are about a silent neighbour."""

_END_WITHIN = 10.0  # [s]
_LOG_TAIL = 30  # [lines]

Values = Mapping[str, str | int | float | bool]


class Stack:
    """A context in which the simulated arm, the arm node and the policy node run, each in a process of its own.

    They get the parameters of the same file that `piper_policy.launch.py` uses, a DDS domain and a CAN bus of their
    own, and they end with the context, whatever happens in it.

    bundle: the policy.
    logs: directory for one log per node.
    parameters: per node, parameters that differ from the file.
    namespace: ROS namespace of all nodes. domain: the DDS domain, where it shall not be one of their own.
    recording: what the nodes said and measured since they started.
    """

    def __init__(
        self,
        bundle: Path,
        logs: Path,
        *,
        parameters: Mapping[str, Values] | None = None,
        config: Path = CONFIG,
        namespace: str = "",
        domain: int | None = None,
    ) -> None:
        self._logs, self._config, self._namespace = logs, config, namespace
        token = f"{os.getpid()}-{random.randrange(1 << 32):08x}"
        given = parameters or {}
        self._parameters: dict[str, Values] = {
            "sim_node": {**given.get("sim_node", {}), "can": f"udp:{token}"},
            # The only arm that may move without the user's word is the simulated one on this bus.
            "arm_node": {"dry_run": False, **given.get("arm_node", {}), "arm": "sdk", "can": f"udp:{token}"},
            "policy_node": {"bundle": str(bundle.resolve()), **given.get("policy_node", {})},
        }
        # Above 101 the ports of a domain meet Linux's ephemeral ones.
        self._domain = random.randrange(1, 102) if domain is None else domain
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._resources = ExitStack()

    def __enter__(self) -> Stack:
        with ExitStack() as resources:
            resources.callback(self._end)
            resources.push(self._show_logs)
            self._start()
            self._node = resources.enter_context(self._observer())
            self.recording = Recording(self._node, self._namespace)
            self._tasks = self._node.create_publisher(String, f"{self._namespace}/policy_node/task", 1)
            self._spin_in_background(resources)
            resources.callback(self._end)  # while there is still someone to hear their last words
            self._activate("sim_node")  # first: the arm node connects to what it simulates
            self._activate("arm_node", "policy_node")
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.__exit__(kind, error, traceback)

    def enable(self) -> None:
        """Power the arm, and wait until it holds."""
        self.ask("enable")
        self.wait(lambda: self.recording.state.startswith("HOLDING"), 10.0, "the arm to hold")

    def ask(self, request: str) -> None:
        """Call one of the arm node's services: enable, hold, resume or park; raises `WorkFailed` where refused."""
        answer = self._call(Trigger, f"arm_node/{request}", Trigger.Request(), 5.0)
        if not answer.success:
            raise WorkFailed(f"arm_node refused to {request}: {answer.message}")

    def send_task(self, task: str) -> None:
        """Give the policy its task."""
        self.wait(lambda: self._tasks.get_subscription_count() > 0, 10.0, "the policy node to listen for tasks")
        self._tasks.publish(String(data=task))

    def wait(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait up to ``timeout`` [s] until ``done``; raises `WorkFailed` where that fails or a node dies."""
        deadline = time.monotonic() + timeout
        while not done():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise WorkFailed(f"{name} ended with exit code {process.returncode}; its log: {self.log(name)}")
            if time.monotonic() > deadline:
                raise WorkFailed(f"waited {timeout:g} s in vain for {what}; logs: {self._logs}")
            time.sleep(0.02)

    def kill(self, name: str) -> None:
        """End a node without any warning (SIGKILL), as a crash would."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> Path:
        """Where a node's output goes."""
        return self._logs / f"{name}.log"

    def _start(self) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        paths = [str(ROOT), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | self._dds() | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        for name in NODES:
            command = [
                sys.executable,
                "-m",
                f"vla_runtime_ros.{name}",
                "--ros-args",
                "--params-file",
                str(self._config),
            ]
            for key, value in self._parameters[name].items():
                text = str(value).lower() if isinstance(value, bool) else str(value)
                command += ["-p", f"{key}:={text}"]
            if self._namespace:
                command += ["-r", f"__ns:={self._namespace}"]
            with self.log(name).open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )

    def _dds(self) -> dict[str, str]:
        return {"ROS_DOMAIN_ID": str(self._domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}

    @contextmanager
    def _observer(self) -> Iterator[Node]:
        """A node of this process in the domain of the others."""
        before = dict(os.environ)
        os.environ.update(self._dds())  # rcl takes the discovery range from nowhere else
        context = rclpy.Context()
        try:
            rclpy.init(args=[], context=context)
        finally:
            os.environ.clear()
            os.environ.update(before)
        node = rclpy.create_node("stack", context=context)
        try:
            yield node
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)

    def _spin_in_background(self, resources: ExitStack) -> None:
        executor = SingleThreadedExecutor(context=self._node.context)
        executor.add_node(self._node)
        ending = threading.Event()

        def spin() -> None:
            while not ending.is_set():
                try:
                    executor.spin_once(timeout_sec=0.2)
                except ExternalShutdownException:
                    return

        thread = threading.Thread(target=spin, name="stack observer", daemon=True)
        thread.start()
        resources.callback(executor.shutdown)
        resources.callback(thread.join)
        resources.callback(ending.set)

    def _activate(self, *names: str) -> None:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=transition))
            futures = {name: self._call_async(ChangeState, f"{name}/change_state", request) for name in names}
            for name, future in futures.items():
                self.wait(future.done, 60.0, f"{name} to take transition {transition}")
                if not future.result().success:
                    raise WorkFailed(f"{name} refused transition {transition}; its log: {self.log(name)}")

    def _call(self, service_type: Any, name: str, request: Any, timeout: float) -> Any:
        future = self._call_async(service_type, name, request)
        self.wait(future.done, timeout, f"{name} to answer")
        return future.result()

    def _call_async(self, service_type: Any, name: str, request: Any) -> Any:
        client: Any = self._node.create_client(service_type, f"{self._namespace}/{name}")
        self.wait(client.service_is_ready, 30.0, f"service {name}")
        return client.call_async(request)

    def _end(self) -> None:
        for name in _END_ORDER:
            if (process := self._processes.pop(name, None)) is None:
                continue
            process.terminate()
            try:
                process.wait(_END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _show_logs(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is not None:
            for name in NODES:
                if self.log(name).is_file():
                    tail = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
                    print(f"--- {name} ({self.log(name)})", *tail, sep="\n", file=sys.stderr)
        return False
