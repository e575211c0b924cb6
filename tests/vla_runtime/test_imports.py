"""The robot side stays light: whatever of it is imported, heavy libraries load only where they are used."""

import pkgutil
import subprocess
import sys

import vla_runtime

HEAVY = ("torch", "rclpy", "tensorrt", "tensorrt_rtx", "mujoco", "piper_sdk", "onnx", "matplotlib")


def test_importing_every_module_loads_nothing_heavy() -> None:
    modules = [module.name for module in pkgutil.walk_packages(vla_runtime.__path__, "vla_runtime.")]
    assert len(modules) > 50
    program = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
