"""The ROS 2 side of vla_runtime: the nodes that see, think and move."""
