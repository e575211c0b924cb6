#!/usr/bin/env bash
# Sets up a virtual environment: everything this project needs, in one place, for `make`, Docker and a robot alike.
#
#   scripts/install.sh workstation [VENV]   export, simulation, tests; ROS 2 from PyPI; TensorRT-RTX
#   scripts/install.sh robot       [VENV]   the runtime alone; ROS 2 and TensorRT come from the machine (JetPack, apt)
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:?usage: scripts/install.sh workstation|robot [VENV]}
venv=${2:-.venv}

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "no Python 3.10, 3.11 or 3.12 found: install python3.11, or name one with PYTHON=/path/to/python"
}

# Off-screen rendering needs libEGL or libOSMesa. Without the right to install packages, say which and go on: what
# renders will stop with the same names.
rendering_libraries() {
    if ldconfig -p | grep -qE 'libEGL\.so\.1|libOSMesa\.so'; then return; fi
    local as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then as_root="sudo"; else
            say "Rendering needs Debian's libegl1 (or libosmesa6). Install it: sudo apt-get install libegl1"
            return
        fi
    fi
    if ! command -v apt-get >/dev/null; then
        say "Rendering needs libEGL or libOSMesa (Debian: libegl1 or libosmesa6): install it with your package manager."
        return
    fi
    say "Installing libegl1 for off-screen rendering"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends libegl1 libgl1-mesa-dri
}

pip() { "$venv/bin/python" -m pip install --disable-pip-version-check --quiet -c constraints.txt "$@"; }

# The pip that comes with Python 3.10 searches for a set of versions that fit until the day is over.
upgrade_pip() { pip 'pip>=24'; }

case $profile in
workstation)
    python=$(find_python)
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    upgrade_pip
    say "Installing PyTorch"  # first: anything that depends on it would otherwise choose another build
    pip torch==2.13.0
    say "Installing the project"
    pip -e '.[export,ik,peft,sim,ros,calibration,evaluation,dev]' -e ros2_ws/src/vla_runtime
    # TensorRT-RTX builds engines without a GPU. Its dependencies are CUDA libraries that the driver's owner brings.
    say "Installing TensorRT-RTX"
    if ! pip --no-deps tensorrt-rtx-cu13 tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings; then
        say "TensorRT-RTX has no package for this machine: engines will be skipped by name."
    fi
    rendering_libraries
    ;;
robot)
    python=$(find_python)
    # JetPack's TensorRT and the distribution's rclpy live among the system's packages.
    [ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
    upgrade_pip
    say "Installing the runtime"
    pip '.[bags,piper]'  # policies of the end pose need the extra ik too
    ;;
*)
    die "unknown profile '$profile': expected workstation or robot"
    ;;
esac
say "Ready: $venv"
