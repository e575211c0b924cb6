"""The robot side: runs an exported vision-language-action policy and moves the arm with it.

Importing this package loads no torch, no rclpy and no tensorrt; heavy libraries load where they are used.
"""

__version__ = "0.1.0"
