#!/usr/bin/env bash
set -e
for distribution in /opt/ros/*/setup.bash; do source "$distribution"; done
source /opt/vla/bin/activate
source /opt/vla_ws/setup.bash
exec "$@"
