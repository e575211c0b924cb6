"""Installs the nodes where `ros2 run` and `ros2 launch` look for them."""

from setuptools import setup

PACKAGE = "vla_runtime"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="Runs a vision-language-action policy on an AgileX PiPER arm",
    license="Apache-2.0",
    maintainer="vla_runtime maintainers",
    maintainer_email="maintainers@example.org",
    packages=["vla_runtime_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", ["launch/piper_policy.launch.py"]),
        (f"share/{PACKAGE}/config", ["config/piper_policy.yaml", "config/security_policy.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "arm_node = vla_runtime_ros.arm_node:main",
            "policy_node = vla_runtime_ros.policy_node:main",
            "replay_node = vla_runtime_ros.replay_node:main",
            "sim_node = vla_runtime_ros.sim_node:main",
        ],
    },
)
