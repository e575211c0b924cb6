"""Who published a message, by the name of the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

_UNKNOWN = "_NODE_NAME_UNKNOWN_"  # what rclpy calls a node it has not discovered yet
_GID = 16  # bytes of a DDS identity; some releases of ROS pad it


class Publishers:
    """Tells the publishers of one topic apart, by the identity DDS gives each.

    Older releases of rclpy do not say whose a message is. Then all is well while there is one publisher, and while
    there are more, nothing they say can be believed.
    """

    def __init__(self, node: Node, topic: str) -> None:
        self._node, self._topic = node, node.resolve_topic_name(topic)
        self._names: dict[bytes, str] = {}

    def of(self, info: Mapping[str, Any]) -> tuple[str, str | None]:
        """Whose the message with this info is, by name and identity; and why it may not be believed, or None."""
        if "publisher_gid" not in info:
            found = sorted(self._name(endpoint) for endpoint in self._node.get_publishers_info_by_topic(self._topic))
            if len(found) > 1:
                return "", f"{' and '.join(found)} publish on {self._topic}: stop all but one"
            return found[0] if found else "unknown", None
        identity = bytes(info["publisher_gid"]["data"])[:_GID]
        if identity not in self._names:
            # A publisher may be known before its node is; its name is then asked for again.
            self._names |= {
                bytes(endpoint.endpoint_gid)[:_GID]: self._name(endpoint)
                for endpoint in self._node.get_publishers_info_by_topic(self._topic)
                if endpoint.node_name != _UNKNOWN
            }
        return f"{self._names.get(identity, 'a node unknown')} ({identity[-8:].hex()})", None

    def _name(self, endpoint: Any) -> str:
        return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
