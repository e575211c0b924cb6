"""Policy and arm, everything between cameras and CAN bus; where asked, a simulated robot or a bag in their place."""

from __future__ import annotations

from pathlib import Path

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler, Shutdown
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from launch import Action, LaunchContext, LaunchDescription
from vla_runtime.bundle.default import default_bundle
from vla_runtime.errors import BadInput

CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
SIMULATED_BUS = "udp:piper"
END_WITHIN = "40"  # [s]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch vla_runtime piper_policy.launch.py` starts."""
    default_config = PathJoinSubstitution([FindPackageShare("vla_runtime"), "config", "piper_policy.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bundle",
                default_value="",
                description="Policy bundle; without it $VLA_BUNDLE, else the last one exported on this machine.",
            ),
            DeclareLaunchArgument(
                "sim",
                default_value="false",
                choices=["true", "false"],
                description="Start the simulated arm and cameras, and drive them instead of a real arm.",
            ),
            DeclareLaunchArgument(
                "arm",
                default_value="sdk",
                choices=["sdk", "piper_ros", "agx_arm_ros"],
                description="Driver of the arm: sdk (piper_sdk on the CAN bus), or one that already runs in ROS.",
            ),
            DeclareLaunchArgument(
                "can",
                default_value="",
                description=f"CAN bus of the arm; without it can0, and with sim:=true {SIMULATED_BUS}.",
            ),
            DeclareLaunchArgument(
                "dry_run",
                default_value="",
                choices=["", "true", "false"],
                description="Only listen to the arm; without it what the config says (true), and with sim:=true false.",
            ),
            DeclareLaunchArgument(
                "replay",
                default_value="",
                description="Bag to take images and joints from instead of the robot; the arm then runs dry.",
            ),
            DeclareLaunchArgument(
                "config", default_value=default_config, description="File with the parameters of the nodes."
            ),
            OpaqueFunction(function=_nodes),
        ]
    )


def _nodes(context: LaunchContext) -> list[Action]:
    """Every node, and the transitions that take it to active; raises `BadInput` where there is no bundle or config."""
    simulated = LaunchConfiguration("sim").perform(context) == "true"
    config = LaunchConfiguration("config").perform(context)
    if not Path(config).is_file():
        raise BadInput(f"config:={config} is not a file")
    bundle = LaunchConfiguration("bundle").perform(context) or str(default_bundle())
    can = LaunchConfiguration("can").perform(context) or (SIMULATED_BUS if simulated else "can0")
    driver = LaunchConfiguration("arm").perform(context)

    bag = LaunchConfiguration("replay").perform(context)
    dry_run = LaunchConfiguration("dry_run").perform(context) or ("false" if simulated and not bag else "")
    if bag and dry_run == "false":
        raise BadInput("replay:= never moves an arm: leave dry_run:=false out")

    policy = _node("policy_node", config, {"bundle": bundle})
    arm = _node("arm_node", config, {"arm": driver, "can": can, **_of_dry_run(dry_run, bag)}, required=True)
    actions = [_activate_once_configured(policy), _activate_once_configured(arm), policy, arm]
    if bag:
        replay = _node("replay_node", config, {"bag": bag})
        policy_listens = OnStateTransition(
            target_lifecycle_node=policy,
            start_state="activating",
            goal_state="active",
            entities=[_change(replay, CONFIGURE)],
        )
        actions += [_activate_once_configured(replay), RegisterEventHandler(policy_listens), replay]
    if not simulated:
        return [*actions, _change(policy, CONFIGURE), _change(arm, CONFIGURE)]

    # Beside a bag the simulated arm answers, and its cameras, which only an active node has, stay silent.
    sim = _node("sim_node", config, {"can": can}, required=True)
    ready = ("configuring", "inactive") if bag else ("activating", "active")
    arm_answers = OnStateTransition(
        target_lifecycle_node=sim, start_state=ready[0], goal_state=ready[1], entities=[_change(arm, CONFIGURE)]
    )
    return [
        *actions,
        *([] if bag else [_activate_once_configured(sim)]),
        RegisterEventHandler(arm_answers),
        sim,
        _change(sim, CONFIGURE),
        _change(policy, CONFIGURE),
    ]


def _of_dry_run(dry_run: str, bag: str) -> dict[str, str | bool]:
    """Parameters of the arm node that say whether it moves; what is not said, the config says."""
    if bag:  # the measured joints go where they are not taken for those of the bag
        return {"dry_run": True, "joint_states_topic": "arm_node/joint_states"}
    return {"dry_run": dry_run == "true"} if dry_run else {}


def _node(name: str, config: str, parameters: dict[str, str | bool], required: bool = False) -> LifecycleNode:
    """A node of this package under its own name, in the namespace of whoever includes this file.

    required: when it ends, everything ends.
    """

    def end(context: LaunchContext) -> list[Action]:
        # Asking twice for the end, as two nodes do after Ctrl-C, is an error of its own in launch.
        return [Shutdown(reason=f"{name} ended")] if required and not context.is_shutdown else []

    return LifecycleNode(
        package="vla_runtime",
        executable=name,
        name=name,
        namespace="",
        parameters=[
            config,
            {
                # A bus named 10 is no number.
                key: ParameterValue(value, value_type=str) if isinstance(value, str) else value
                for key, value in parameters.items()
            },
        ],
        output="screen",
        # Whose keys it uses where DDS security is on, whatever the terminal uses that launches it.
        additional_env={"ROS_SECURITY_ENCLAVE_OVERRIDE": f"/vla_runtime/{name}"},
        # An arm that parks before it ends needs more time than launch leaves a node.
        sigterm_timeout=END_WITHIN,
        sigkill_timeout=END_WITHIN,
        on_exit=OpaqueFunction(function=end),
    )


def _activate_once_configured(node: LifecycleNode) -> RegisterEventHandler:
    return RegisterEventHandler(
        OnStateTransition(
            target_lifecycle_node=node,
            start_state="configuring",
            goal_state="inactive",
            entities=[_change(node, ACTIVATE)],
        )
    )


def _change(node: LifecycleNode, transition: int) -> EmitEvent:
    return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))
