"""What the launch file decides, run with stand-ins for the few classes of `launch` it uses."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vla_runtime.errors import BadInput

PACKAGE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "vla_runtime"
LAUNCH = PACKAGE / "launch" / "piper_policy.launch.py"
CONFIG = PACKAGE / "config" / "piper_policy.yaml"


class Thing:
    """Remembers what it was made with."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.__dict__["kwargs"] = args, kwargs
        self.kind = type(self).__name__


class Configuration(Thing):
    def perform(self, context: dict[str, str]) -> str:
        return context[self.args[0]]


MODULES = {
    "launch": ("Action", "LaunchContext", "LaunchDescription"),
    "launch.actions": ("DeclareLaunchArgument", "EmitEvent", "OpaqueFunction", "RegisterEventHandler", "Shutdown"),
    "launch.events": ("matches_action",),
    "launch.substitutions": ("PathJoinSubstitution",),
    "launch_ros": (),
    "launch_ros.actions": ("LifecycleNode",),
    "launch_ros.event_handlers": ("OnStateTransition",),
    "launch_ros.events": (),
    "launch_ros.events.lifecycle": ("ChangeState",),
    "launch_ros.parameter_descriptions": ("ParameterValue",),
    "launch_ros.substitutions": ("FindPackageShare",),
}

Actions = Callable[..., list[Any]]


@pytest.fixture
def actions(monkeypatch: pytest.MonkeyPatch) -> Actions:
    for name, classes in MODULES.items():
        module = ModuleType(name)
        for one in classes:
            setattr(module, one, type(one, (Thing,), {}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["launch.substitutions"].LaunchConfiguration = Configuration  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("piper_policy_launch", LAUNCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def decide(**given: str) -> list[Any]:
        defaults = {"bundle": "/b", "sim": "false", "arm": "sdk", "can": "", "dry_run": "", "replay": ""}
        decided: list[Any] = module._nodes(defaults | {"config": str(CONFIG)} | given)
        return decided

    return decide


def parameters(actions: list[Any], name: str) -> dict[str, Any]:
    """What the node gets besides the config."""
    (node,) = (a for a in actions if a.kind == "LifecycleNode" and a.kwargs["name"] == name)
    config, given = node.kwargs["parameters"]
    assert config == str(CONFIG)
    return {key: value.args[0] if isinstance(value, Thing) else value for key, value in given.items()}


def nodes(actions: list[Any]) -> set[str]:
    return {action.kwargs["name"] for action in actions if action.kind == "LifecycleNode"}


def triggers(actions: list[Any]) -> set[tuple[str, str, str, int]]:
    """(node, state it reached, node that is changed, transition), and ("", "", node, transition) at the start."""
    found = set()
    for action in actions:
        if action.kind == "RegisterEventHandler":
            on = action.args[0].kwargs
            for entity in on["entities"]:
                found.add((on["target_lifecycle_node"].kwargs["name"], on["goal_state"], *changed(entity)))
        elif action.kind == "EmitEvent":
            found.add(("", "", *changed(action)))
    return found


def changed(emit: Any) -> tuple[str, int]:
    event = emit.kwargs["event"].kwargs
    return event["lifecycle_node_matcher"].args[0].kwargs["name"], event["transition_id"]


CONFIGURE, ACTIVATE = 1, 3


def test_a_real_arm_moves_only_where_the_user_says_so(actions: Actions) -> None:
    assert parameters(actions(), "arm_node") == {"arm": "sdk", "can": "can0"}  # the config decides: true
    assert parameters(actions(dry_run="true"), "arm_node")["dry_run"] is True
    assert parameters(actions(dry_run="false"), "arm_node")["dry_run"] is False
    assert nodes(actions()) == {"policy_node", "arm_node"}


def test_the_simulated_arm_moves_unless_the_user_says_otherwise(actions: Actions) -> None:
    simulated = actions(sim="true")
    assert parameters(simulated, "arm_node") == {"arm": "sdk", "can": "udp:piper", "dry_run": False}
    assert parameters(simulated, "sim_node") == {"can": "udp:piper"}
    assert parameters(actions(sim="true", dry_run="true"), "arm_node")["dry_run"] is True


def test_a_replay_moves_nothing(actions: Actions) -> None:
    for sim in ("false", "true"):
        replay = actions(replay="/bag", sim=sim)
        arm = parameters(replay, "arm_node")
        assert (arm["dry_run"], arm["joint_states_topic"]) == (True, "arm_node/joint_states")
        assert parameters(replay, "replay_node") == {"bag": "/bag"}
        with pytest.raises(BadInput, match="replay:= never moves an arm"):
            actions(replay="/bag", dry_run="false", sim=sim)


def test_every_node_is_taken_to_active_in_an_order_that_works(actions: Actions) -> None:
    for name in ("policy_node", "arm_node"):
        assert triggers(actions()) >= {("", "", name, CONFIGURE), (name, "inactive", name, ACTIVATE)}
    simulated = triggers(actions(sim="true"))
    assert ("", "", "arm_node", CONFIGURE) not in simulated  # there is no arm to connect to yet
    assert simulated >= {
        ("", "", "sim_node", CONFIGURE),
        ("sim_node", "inactive", "sim_node", ACTIVATE),
        ("sim_node", "active", "arm_node", CONFIGURE),
    }
    replayed = triggers(actions(replay="/bag", sim="true"))
    assert ("sim_node", "inactive", "arm_node", CONFIGURE) in replayed
    assert ("policy_node", "active", "replay_node", CONFIGURE) in replayed  # nothing of the bag is lost
    assert not [one for one in replayed if one[2:] == ("sim_node", ACTIVATE)]  # its cameras stay silent


def test_an_arm_that_parks_is_given_the_time(actions: Actions) -> None:
    (arm,) = (a for a in actions() if a.kind == "LifecycleNode" and a.kwargs["name"] == "arm_node")
    assert float(arm.kwargs["sigterm_timeout"]) > 30.0  # exit_timeout
    assert float(arm.kwargs["sigkill_timeout"]) > 30.0


def test_every_node_has_keys_of_its_own_in_the_security_policy(actions: Actions) -> None:
    policy = (PACKAGE / "config" / "security_policy.xml").read_text()
    for action in actions(replay="/bag", sim="true"):
        if action.kind == "LifecycleNode":
            (enclave,) = action.kwargs["additional_env"].values()
            assert enclave == f"/vla_runtime/{action.kwargs['name']}"
            assert f'<enclave path="{enclave}">' in policy


def test_a_node_that_ends_ends_everything_once(actions: Actions) -> None:
    (arm,) = (a for a in actions() if a.kind == "LifecycleNode" and a.kwargs["name"] == "arm_node")
    end = arm.kwargs["on_exit"].kwargs["function"]
    assert [one.kind for one in end(SimpleNamespace(is_shutdown=False))] == ["Shutdown"]
    assert end(SimpleNamespace(is_shutdown=True)) == []


def test_a_config_that_is_none_is_refused(actions: Actions) -> None:
    with pytest.raises(BadInput, match="config:=/nowhere is not a file"):
        actions(config="/nowhere")
