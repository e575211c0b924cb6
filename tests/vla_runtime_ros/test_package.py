"""The package as colcon and `ros2 launch` see it, without either: what one file names, the other must have."""

from __future__ import annotations

import ast
import importlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_runtime_ros.arm_node import ArmNode
from vla_runtime_ros.policy_node import PolicyNode
from vla_runtime_ros.replay_node import ReplayNode
from vla_runtime_ros.sim_node import SimNode

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "vla_runtime"
LAUNCH = PACKAGE / "launch" / "piper_policy.launch.py"
CONFIG = PACKAGE / "config" / "piper_policy.yaml"
NODES = {"arm_node": ArmNode, "policy_node": PolicyNode, "replay_node": ReplayNode, "sim_node": SimNode}
FROM_LAUNCH = {"bundle", "arm", "can", "bag"}
ARGUMENTS = {"bundle", "sim", "arm", "can", "dry_run", "replay", "config"}


@pytest.fixture(scope="module")
def manifest() -> ET.Element:
    return ET.parse(PACKAGE / "package.xml").getroot()


@pytest.fixture(scope="module")
def setup_arguments() -> dict[str, Any]:
    (call,) = (
        node
        for node in ast.walk(ast.parse((PACKAGE / "setup.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup"
    )
    scope: dict[str, Any] = {"PACKAGE": "vla_runtime"}
    return {
        keyword.arg: eval(compile(ast.Expression(keyword.value), "setup.py", "eval"), scope)  # our own file
        for keyword in call.keywords
        if keyword.arg
    }


@pytest.fixture(scope="module")
def launch_calls() -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(LAUNCH.read_text())) if isinstance(node, ast.Call)]


def named(calls: list[ast.Call], function: str) -> list[ast.Call]:
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == function]


def first(call: ast.Call) -> str:
    assert isinstance(call.args[0], ast.Constant)
    return str(call.args[0].value)


def test_the_manifest_is_what_ament_takes(manifest: ET.Element, setup_arguments: dict[str, Any]) -> None:
    assert manifest.get("format") == "3"
    assert manifest.findtext("name") == setup_arguments["name"] == "vla_runtime"
    assert manifest.findtext("version") == setup_arguments["version"]
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("export/build_type") == "ament_python"
    maintainer = manifest.find("maintainer")
    assert maintainer is not None
    assert re.fullmatch(r"[\w.-]+@[\w-]+(\.[\w-]+)+", maintainer.get("email", ""))


def test_every_ros_package_the_code_imports_is_a_dependency(manifest: ET.Element) -> None:
    depends = {element.text for element in manifest.findall("exec_depend")}
    imported = set()
    for file in [*PACKAGE.glob("vla_runtime_ros/*.py"), LAUNCH]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported.update(name.name.split(".")[0] for name in node.names)
    ros = {name for name in imported if name.startswith(("rcl", "launch", "ament", "builtin")) or "_msgs" in name}
    ros |= imported & {"std_srvs"}
    assert ros
    assert ros <= depends


def test_what_is_installed_exists_and_lies_where_ros_looks(setup_arguments: dict[str, Any]) -> None:
    installed = dict(setup_arguments["data_files"])
    assert "share/ament_index/resource_index/packages" in installed
    assert installed["share/vla_runtime/launch"] == ["launch/piper_policy.launch.py"]
    for sources in installed.values():
        for source in sources:
            assert (PACKAGE / source).is_file(), source
    assert "lib/vla_runtime" in (PACKAGE / "setup.cfg").read_text()


def test_every_executable_is_a_function_that_exists(setup_arguments: dict[str, Any]) -> None:
    for script in setup_arguments["entry_points"]["console_scripts"]:
        name, _, target = script.partition(" = ")
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_every_node_the_launch_file_starts_is_installed(
    launch_calls: list[ast.Call], setup_arguments: dict[str, Any]
) -> None:
    executables = {script.partition(" = ")[0] for script in setup_arguments["entry_points"]["console_scripts"]}
    started = {first(call) for call in named(launch_calls, "_node")}
    assert started == set(NODES) == executables


def test_the_launch_file_has_its_arguments_and_uses_no_other(launch_calls: list[ast.Call]) -> None:
    declared = {first(call): call for call in named(launch_calls, "DeclareLaunchArgument")}
    used = {first(call) for call in named(launch_calls, "LaunchConfiguration")}
    assert set(declared) == ARGUMENTS == used
    for name, call in declared.items():
        assert {"default_value", "description"} <= {keyword.arg for keyword in call.keywords}, name


def test_what_the_launch_file_sets_are_parameters_of_the_node(launch_calls: list[ast.Call]) -> None:
    for call in named(launch_calls, "_node"):
        table = {parameter.name for parameter in NODES[first(call)].PARAMETERS}
        parameters = call.args[2]
        assert isinstance(parameters, ast.Dict)
        assert {key.value for key in parameters.keys if isinstance(key, ast.Constant)} <= table & FROM_LAUNCH


def test_the_configuration_lists_every_parameter_with_its_default() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert set(config) == {f"/**/{name}" for name in NODES}
    for name, node in NODES.items():
        given = flat(config[f"/**/{name}"]["ros__parameters"])
        table = {p.name: p.default for p in (*node.COMMON, *node.PARAMETERS) if p.name not in FROM_LAUNCH}
        assert given == table
        assert {key: type(value) for key, value in given.items()} == {key: type(value) for key, value in table.items()}


def flat(parameters: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in parameters.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out
